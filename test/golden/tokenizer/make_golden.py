"""Renders chat-cases.json with Jinja2 as transformers' apply_chat_template sets it up, without any guard.

usage: make_golden.py TEMPLATE OUT.json
The ids are added by make-ids.ts. See README.md.
"""
import json
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def compile_template(source):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env.from_string(source)


def as_openai(case):
    messages = []
    for message in case["messages"]:
        turn = {key: value for key, value in message.items() if key != "tool_calls"}
        if "tool_calls" in message:
            turn["tool_calls"] = [
                {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
                for c in message["tool_calls"]
            ]
        messages.append(turn)
    tools = [{"type": "function", "function": tool} for tool in case.get("tools", [])]
    return messages, tools or None


def main():
    template = compile_template(open(sys.argv[1], encoding="utf-8").read())
    results = []
    for case in json.load(open(__file__.rsplit("/", 1)[0] + "/chat-cases.json", encoding="utf-8")):
        messages, tools = as_openai(case)
        text = template.render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=case.get("add_generation_prompt", True)
        )
        results.append({"name": case["name"], "text": text})
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        json.dump(results, out, ensure_ascii=False, indent=1)
        out.write("\n")


main()
