"""The official OpenAI client for Python, unmodified, against a running mesh. By hand: it needs a package from PyPI.

    python3 -m venv /tmp/openai && /tmp/openai/bin/pip install openai
    npm start                      # in another terminal
    /tmp/openai/bin/python test/e2e/python/openai_smoke.py [http://127.0.0.1:8000/v1] [quern-mini]

Prints one line per check and exits 1 when one fails.
"""

import sys

import openai

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
model = sys.argv[2] if len(sys.argv) > 2 else "quern-mini"
client = openai.OpenAI(base_url=url, api_key="unused", max_retries=0)
failed = 0


def check(name, holds, shown=""):
    global failed
    failed += not holds
    print(f"{'ok    ' if holds else 'FAILED'} {name} {shown}")


def refused(name, error_class, call, **expected):
    try:
        call()
    except openai.APIStatusError as error:
        actual = {key: getattr(error, key) for key in expected}
        check(name, isinstance(error, error_class) and actual == expected, f"{type(error).__name__} {actual}")
    else:
        check(name, False, "no error")


prompt = "def add(a, b):\n    return"
asked = dict(model=model, prompt=prompt, max_tokens=16, temperature=0)
whole = client.completions.create(**asked)
check("completion", len(whole.choices[0].text) > 0, repr(whole.choices[0].text))
check("usage", whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage.total_tokens)
chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
check("streamed completion", text == whole.choices[0].text)
check("streamed usage", chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens)

filled = client.completions.create(**{**asked, "suffix": "\n\nprint(add(1, 2))\n"})
check("suffix fills in the middle", "<|fim" not in filled.choices[0].text, repr(filled.choices[0].text))

chat = dict(model=model, messages=[{"role": "user", "content": "A loop in Python."}], max_tokens=16, temperature=0)
answer = client.chat.completions.create(**chat)
check("chat", answer.choices[0].message.role == "assistant", repr(answer.choices[0].message.content))
chunks = list(client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
check("streamed chat", text == answer.choices[0].message.content)
check("streamed chat usage", chunks[-1].usage is not None)
ended = {**chat, "max_tokens": 400}  # the helper raises when an answer is cut by its length
with client.chat.completions.stream(**ended) as stream:
    final = stream.get_final_completion()
check("the stream helper", final.choices[0].message.content.startswith(answer.choices[0].message.content))

extra = client.completions.create(**asked, extra_body={"top_k": 1, "ignore_eos": True, "return_token_ids": True})
check("vLLM's fields through extra_body", len(extra.choices[0].token_ids) == 16)
check("models", [one.id for one in client.models.list()] == [model])
check("one model", client.models.retrieve(model).id == model)

refused(
    "unknown model",
    openai.NotFoundError,
    lambda: client.completions.create(model="gpt-4", prompt="x"),
    status_code=404,
    code="model_not_found",
    param="model",
)
refused(
    "wrong value",
    openai.BadRequestError,
    lambda: client.completions.create(model=model, prompt="x", temperature=3),
    status_code=400,
    param="temperature",
    type="invalid_request_error",
)
refused(
    "too long",
    openai.BadRequestError,
    lambda: client.completions.create(model=model, prompt="x, " * 3000),
    status_code=400,
    code="context_length_exceeded",
)

with client.completions.create(**{**asked, "max_tokens": 1500}, stream=True, extra_body={"ignore_eos": True}) as stream:
    for _ in stream:
        break
check("left a stream in the middle", client.completions.create(**asked).choices[0].text == whole.choices[0].text)
sys.exit(1 if failed else 0)
