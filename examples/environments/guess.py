"""Guess a number from 1 to 100, over lines of JSON. The state is the number."""

import json
import re
import sys


def reply(request):
    if request["method"] == "reset":
        said = "I think of a number from 1 to 100. Guess it."
        return {"messages": [{"role": "user", "content": said}], "state": request["seed"] % 100 + 1}
    number, guesses = request["state"], re.findall(r"\d+", request["text"])
    if guesses and int(guesses[-1]) == number:
        return {"done": True, "reward": 1.0, "correct": True, "log": {"guesses": request["turn"]}}
    if request["last"]:
        return {"done": True, "reward": 0.0, "correct": False}
    hint = "A number, please." if not guesses else "Higher." if int(guesses[-1]) < number else "Lower."
    return {"messages": [{"role": "user", "content": hint}], "state": number}


for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], **reply(request)}), flush=True)
