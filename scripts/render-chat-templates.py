"""Renders every chat template of a folder over a few conversations, with jinja2 set up as transformers does it.

Usage: render-chat-templates.py FOLDER > CASES.jsonl
"""

import datetime
import json
import pathlib
import sys

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """{% generation %} … {% endgeneration %} prints what it holds."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body, lineno=line)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise TemplateError(message)


MOMENT = 1_735_689_600


def strftime_now(form):
    return datetime.datetime.fromtimestamp(MOMENT, datetime.timezone.utc).strftime(form)


def environment():
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return made


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds “two” numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "b": {"type": "number", "description": "The first <number>"},
                    "a": {"type": "number", "enum": [1, 2.5]},
                },
                "required": ["b", "a"],
            },
            "return": {"type": "number"},
        },
    }
]

SYSTEM = ("system", "You are brief.")
QUESTION = ("user", "What is 2 + 2?")
ANSWER = ("assistant", "<think>\nTwo and two.\n</think>\n\nIt is 4.")
CONVERSATIONS = [
    ("question", {"messages": turns(QUESTION)}),
    ("system", {"messages": turns(SYSTEM, QUESTION)}),
    ("turns", {"messages": turns(SYSTEM, QUESTION, ANSWER, ("user", "  And 3 + 3?\n"))}),
    ("answered", {"messages": turns(QUESTION, ANSWER), "add_generation_prompt": False}),
    ("tools", {"messages": turns(SYSTEM, QUESTION), "tools": TOOLS}),
    ("thinking", {"messages": turns(QUESTION), "enable_thinking": True}),
    ("not thinking", {"messages": turns(QUESTION), "enable_thinking": False}),
    ("odd", {"messages": turns(("user", "{{ x }} <|im_end|> 'a' \"b\" naïve 日本\t\\n &lt;"))}),
    ("wrong order", {"messages": turns(ANSWER, QUESTION)}),
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def main():
    for file in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
        source = file.read_text(encoding="utf-8")
        template = environment().from_string(source)
        for name, options in CONVERSATIONS:
            given = {"tools": None, "documents": None, "add_generation_prompt": True, **TOKENS, **options}
            try:
                text = template.render(**given)
            except Exception:
                text = None
            case = {"template": file.name, "source": source, "conversation": name, "tokens": TOKENS, "moment": MOMENT}
            print(json.dumps({**case, **options, "text": text}))


main()
