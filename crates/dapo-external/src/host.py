"""Calls a reward function, or an environment's class, for every request: python3 -c HOST FILE NAME.

Python 3.9 or newer, standard library only.
"""

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
    """The function of this name in a file, or in its orms, and whether it is one of those: ms-swift's, called with texts."""
    sys.path.insert(0, os.path.dirname(file))
    module_name = os.path.splitext(os.path.basename(file))[0]
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None:
        sys.exit(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    orms = vars(module).get("orms")
    if isinstance(orms, dict) and name in orms:
        return instance(orms[name]), True
    function = module
    for part in name.split("."):
        if not hasattr(function, part):
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            sys.exit(f"{file} has no {name}, but {', '.join(names) or 'no function'}")
        function = getattr(function, part)
    return instance(function), False


def instance(function):
    """A function as it is; of a class, what it makes. An environment is made for each episode."""
    return function() if inspect.isclass(function) and not is_environment(function) else function


def is_environment(target):
    return inspect.isclass(target) and hasattr(target, "reset") and hasattr(target, "step")


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

    def __init__(self, function, takes_texts, name):
        self.function, self.takes_texts, self.name = function, takes_texts, name
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
            [{"role": "assistant", "content": s["completion"]}] if chat and not self.takes_texts else s["completion"]
            for s, chat in zip(samples, chats)
        ]
        arguments["completion_ids"] = [sample["token_ids"] for sample in samples]
        result = self.call(arguments)
        if not hasattr(result, "__iter__") or isinstance(result, (str, bytes, dict)):
            raise TypeError(f"{self.name} returns {result!r}, expected a list of numbers")
        return [None if value is None else number(value, f"reward {index}") for index, value in enumerate(result)]


class Environments:
    """The episodes of an environment's class: one instance each, made again from its turns where it is not known."""

    KEPT = 4096

    def __init__(self, make, name):
        self.make, self.name, self.known = make, name, {}
        parameters = list(inspect.signature(make.step).parameters.values())
        self.takes_turn = len(parameters) > 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def problem(self, request, seed, sample=None):
        names = ("prompt", "messages", "answer", "columns", "draw", "step")
        return {**{name: request[name] for name in names}, "seed": seed, "sample": sample}

    def reply(self, request):
        if request["method"] == "reset":
            return self.start(self.make().reset(self.problem(request, request["seed"])))
        return self.step(self.episode(request), request)

    @staticmethod
    def start(answer):
        """None, a text, or a dict with messages and tools."""
        if answer is None:
            return {}
        if isinstance(answer, str):
            return {"messages": [{"role": "user", "content": answer}]}
        return {key: answer[key] for key in ("messages", "tools") if key in answer}

    def episode(self, request):
        """The episode with these turns so far."""
        turns = [said["content"] for said in request["history"] if said["role"] == "assistant"]
        key = (request["reset_seed"], request["draw"], request["sample"])
        environment, seen = self.known.pop(key, (None, None))
        if environment is None or seen != turns:
            environment = self.make()
            environment.reset(self.problem(request, request["reset_seed"], request["sample"]))
            for number, text in enumerate(turns, 1):
                self.call(environment, text, {"turn": number, "truncated": False, "last": False, "seed": request["seed"]})
        if not request["last"]:
            self.known[key] = (environment, [*turns, request["text"]])
            if len(self.known) > self.KEPT:
                del self.known[next(iter(self.known))]
        return environment

    def call(self, environment, text, turn):
        return environment.step(text, turn) if self.takes_turn else environment.step(text)

    def step(self, environment, request):
        answer = self.call(environment, request["text"], {k: request[k] for k in ("turn", "truncated", "last", "seed")})
        if isinstance(answer, str):
            return {"messages": [{"role": "user", "content": answer}]}
        if not isinstance(answer, dict):
            raise TypeError(f"{self.name}.step returns {answer!r}, expected a text or a dict")
        return answer


def main():
    file, name = sys.argv[1:]
    sys.argv = [file]
    requests, replies = take_streams()
    target, is_method = load(file, name)
    plays = is_environment(target)
    target = Environments(target, name) if plays else Function(target, is_method, name)
    for line in requests:
        request = json.loads(line)
        reply = {"id": request["id"]}
        try:
            if "method" in request and not plays:
                raise TypeError(f"{name} is no class with reset and step")
            if "method" in request:
                reply.update(target.reply(request))
            elif plays:
                raise TypeError(f"{name} is an environment, expected a reward function")
            else:
                reply["rewards"] = target.rewards(request["samples"])
        except Exception as error:
            traceback.print_exc()
            reply["error"] = f"{type(error).__name__}: {error}"
        sys.stderr.flush()
        try:
            text = json.dumps(reply, allow_nan=False)
        except (TypeError, ValueError) as error:
            text = json.dumps({"id": request["id"], "error": f"{name} returns no JSON: {error}"})
        replies.write(text.encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    main()
