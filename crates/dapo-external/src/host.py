"""Calls a reward function for every request: python3 -c HOST FILE FUNCTION. Python 3.9 or newer, standard library only."""

import sys

if sys.version_info < (3, 9):
    sys.exit("this Python is {}.{}, expected 3.9 or newer; set python_bin".format(*sys.version_info[:2]))

import importlib.util
import inspect
import json
import math
import os
import traceback


def take_streams():
    """The streams of the protocol. Others get none of them: what a function prints goes to stderr."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdin = open(0, "r", closefd=False)
    sys.stdout = sys.stderr
    return requests, replies


def load(file, name):
    """The function of this name in a file."""
    sys.path.insert(0, os.path.dirname(file))
    module_name = os.path.splitext(os.path.basename(file))[0]
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None:
        sys.exit(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    function = module
    for part in name.split("."):
        if not hasattr(function, part):
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            sys.exit(f"{file} has no {name}, but {', '.join(names) or 'no function'}")
        function = getattr(function, part)
    return function


def number(value, place):
    """A float of whatever is a number: also booleans, and scalars of numpy and torch."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{place} is {value!r}, expected a number")
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{place} is {value!r}, expected a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{place} is {value}, expected a finite number")
    return value


def is_number(value):
    try:
        number(value, "")
        return True
    except (TypeError, ValueError):
        return False


def is_chat(sample):
    """Whether the data has its prompt as a list of messages; a question in plain text is none."""
    columns = sample["columns"]
    return bool(sample["messages"]) and any(isinstance(columns.get(name), list) for name in ("prompt", "messages"))


class Function:
    """A reward function with the arguments that it takes."""

    def __init__(self, function, name):
        self.function, self.name = function, name
        parameters = inspect.signature(function).parameters.values()
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.names = {p.name for p in named}
        self.needed = [p.name for p in named if p.default is p.empty]
        self.takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.is_verl = {"solution_str", "ground_truth"} <= self.names

    def call(self, arguments):
        missing = [name for name in self.needed if name not in arguments]
        if missing:
            known = ", ".join(arguments)
            raise TypeError(f"{self.name} needs {', '.join(missing)}, expected no others than {known}")
        if not self.takes_all:
            arguments = {name: value for name, value in arguments.items() if name in self.names}
        result = self.function(**arguments)
        if inspect.iscoroutine(result):
            import asyncio

            return asyncio.run(result)
        return result

    def rewards(self, samples):
        return self.of_verl(samples) if self.is_verl else self.of_trl(samples)

    def of_verl(self, samples):
        """verl's: one sample a call, answered by a number or a dict with score."""
        rewards = []
        for index, sample in enumerate(samples):
            columns = sample["columns"]
            model = columns.get("reward_model")
            truth = model["ground_truth"] if isinstance(model, dict) and "ground_truth" in model else sample["answer"]
            extra = columns.get("extra_info")
            score = self.call({
                "data_source": columns.get("data_source"),
                "solution_str": sample["completion"],
                "ground_truth": truth,
                "extra_info": extra if isinstance(extra, dict) else columns,
            })
            rewards.append(self.verl_reward(score, f"the score of sample {index}"))
        return rewards

    @staticmethod
    def verl_reward(score, place):
        if not isinstance(score, dict):
            return None if score is None else number(score, place)
        if "score" not in score:
            raise TypeError(f"{place} is {score!r}, expected a dict with \"score\"")
        value = score["score"]
        reward = {"value": None if value is None else number(value, place)}
        log = {str(key): number(entry, key) for key, entry in score.items() if key != "score" and is_number(entry)}
        if log.get("acc") in (0.0, 1.0):
            reward["correct"] = log.pop("acc") == 1.0
        if log:
            reward["log"] = log
        return reward

    def of_trl(self, samples):
        """TRL's: all samples in one call, as lists."""
        names = {name: None for sample in samples for name in sample["columns"]}
        arguments = {name: [sample["columns"].get(name) for sample in samples] for name in names}
        # TRL names the lists of these otherwise.
        for name in ("prompt", "completion"):
            arguments.pop(name, None)
        arguments["answer"] = [sample["columns"].get("answer", sample["answer"]) for sample in samples]
        chats = [is_chat(sample) for sample in samples]
        arguments["prompts"] = [s["messages"] if chat else s["prompt"] for s, chat in zip(samples, chats)]
        arguments["completions"] = [
            [{"role": "assistant", "content": s["completion"]}] if chat else s["completion"]
            for s, chat in zip(samples, chats)
        ]
        arguments["completion_ids"] = [sample["token_ids"] for sample in samples]
        result = self.call(arguments)
        if not hasattr(result, "__iter__") or isinstance(result, (str, bytes, dict)):
            raise TypeError(f"{self.name} returns {result!r}, expected a list of numbers")
        return [None if value is None else number(value, f"reward {index}") for index, value in enumerate(result)]


def main():
    file, name = sys.argv[1:]
    sys.argv = [file]
    requests, replies = take_streams()
    function = Function(load(file, name), name)
    for line in requests:
        request = json.loads(line)
        reply = {"id": request["id"]}
        try:
            reply["rewards"] = function.rewards(request["samples"])
        except Exception as error:
            traceback.print_exc()
            reply["error"] = f"{type(error).__name__}: {error}"
        sys.stderr.flush()
        replies.write(json.dumps(reply, allow_nan=False).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    main()
