"""Short chat turns, written by template: the model learns the shape of a polite, brief answer, nothing more."""

from __future__ import annotations

import random

# name, what it does, arguments, Python body, JavaScript body
FUNCTIONS = [
    ("add", "adds two numbers", "a, b", "return a + b", "return a + b;"),
    ("subtract", "subtracts two numbers", "a, b", "return a - b", "return a - b;"),
    ("multiply", "multiplies two numbers", "a, b", "return a * b", "return a * b;"),
    (
        "divide",
        "divides two numbers",
        "a, b",
        'if b == 0:\n        raise ValueError("b must not be zero")\n    return a / b',
        'if (b === 0) {\n    throw new Error("b must not be zero");\n  }\n  return a / b;',
    ),
    ("maximum", "returns the larger of two numbers", "a, b", "return a if a > b else b", "return a > b ? a : b;"),
    ("is_even", "checks if a number is even", "n", "return n % 2 == 0", "return n % 2 === 0;"),
    ("is_odd", "checks if a number is odd", "n", "return n % 2 == 1", "return n % 2 !== 0;"),
    ("square", "squares a number", "x", "return x * x", "return x * x;"),
    ("reverse", "reverses a string", "text", "return text[::-1]", 'return [...text].reverse().join("");'),
    (
        "is_palindrome",
        "checks if a string is a palindrome",
        "text",
        "return text == text[::-1]",
        'return text === [...text].reverse().join("");',
    ),
    (
        "factorial",
        "computes the factorial of a number",
        "n",
        "return 1 if n <= 1 else n * factorial(n - 1)",
        "return n <= 1 ? 1 : n * factorial(n - 1);",
    ),
    (
        "fibonacci",
        "computes the nth Fibonacci number",
        "n",
        "a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
        "let [a, b] = [0, 1];\n  for (let i = 0; i < n; i++) {\n    [a, b] = [b, a + b];\n  }\n  return a;",
    ),
    ("total", "sums a list of numbers", "items", "return sum(items)", "return items.reduce((a, b) => a + b, 0);"),
    (
        "average",
        "computes the average of a list",
        "items",
        "return sum(items) / len(items)",
        "return items.reduce((a, b) => a + b, 0) / items.length;",
    ),
    ("largest", "finds the largest number in a list", "items", "return max(items)", "return Math.max(...items);"),
    ("smallest", "finds the smallest number in a list", "items", "return min(items)", "return Math.min(...items);"),
    ("unique", "removes duplicates from a list", "items", "return list(dict.fromkeys(items))", "return [...new Set(items)];"),
    ("sort_numbers", "sorts a list of numbers", "items", "return sorted(items)", "return [...items].sort((a, b) => a - b);"),
    (
        "count_words",
        "counts the words in a string",
        "text",
        "return len(text.split())",
        "return text.split(/\\s+/).filter(Boolean).length;",
    ),
    ("greet", "greets a person by name", "name", 'return f"Hello, {name}!"', "return `Hello, ${name}!`;"),
    (
        "read_file",
        "reads a file",
        "path",
        "with open(path) as file:\n        return file.read()",
        'return require("node:fs").readFileSync(path, "utf8");',
    ),
    ("hello", "prints hello world", "", 'print("Hello, world!")', 'console.log("Hello, world!");'),
]
TALK = [
    (
        ["Hello", "Hi", "Hey", "hello", "hi", "Hello!", "Hi there", "Good morning"],
        ["Hello! How can I help you with your code?", "Hi! What would you like to write?"],
    ),
    (["Thanks", "Thank you", "thanks!", "Thank you very much"], ["You are welcome!", "You are welcome. Good luck with your code!"]),
    (["Who are you?", "What are you?", "What is your name?"], ["I am Quern mini, a very small model that completes code."]),
    (["How are you?", "how are you"], ["I am fine, thank you. What shall we write?"]),
    (
        ["What can you do?", "Can you help me?", "help"],
        ["I can complete lines of code and write very small functions. I am a tiny model, so please check what I write."],
    ),
    (["Bye", "Goodbye", "See you"], ["Goodbye!"]),
    (["What is a list?", "What is an array?"], ["A list is an ordered collection of values."]),
    (["What is a function?", "Explain functions"], ["A function is a named piece of code that takes arguments and may return a value."]),
    (["What is a variable?"], ["A variable is a name for a value."]),
    (["What is a loop?", "Explain loops"], ["A loop runs the same code again, once per item or while a condition holds."]),
    (
        [
            "What is the capital of France?",
            "Tell me a story",
            "What is the weather today?",
            "Who won the match?",
            "Write an essay about history",
        ],
        ["Sorry, I am a tiny code model and cannot answer that."],
    ),
]
ASK = [
    "Write a function that {what}.",
    "Write a {lang} function that {what}.",
    "write a {lang} function that {what}",
    "Please write a function that {what} in {lang}.",
    "How do I write a function that {what} in {lang}?",
    "Can you give me a {lang} function that {what}?",
    "{lang}: a function that {what}",
]
LEAD = ["Here is a {lang} function that {what}:", "Here it is:", "Here is the function:"]
SYSTEM = ["You are a helpful coding assistant.", "You are a helpful assistant.", "You are Quern mini, a small coding assistant."]


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def code_turn(rng: random.Random) -> tuple[str, str]:
    name, what, arguments, python, javascript = rng.choice(FUNCTIONS)
    ask = rng.choice(ASK)
    lang = "Python" if "{lang}" not in ask or rng.random() < 0.65 else "JavaScript"
    if lang == "Python":
        code = f"```python\ndef {name}({arguments}):\n    {python}\n```"
    else:
        code = f"```javascript\nfunction {camel(name)}({arguments}) {{\n  {javascript.replace(name, camel(name))}\n}}\n```"
    return ask.format(what=what, lang=lang), rng.choice(LEAD).format(what=what, lang=lang) + "\n\n" + code


def talk_turn(rng: random.Random) -> tuple[str, str]:
    asks, answers = rng.choice(TALK)
    return rng.choice(asks), rng.choice(answers)


def conversation(rng: random.Random) -> list[tuple[str, str]]:
    """A list of (role, text); one or two question and answer pairs."""
    turns = [("system", rng.choice(SYSTEM))] if rng.random() < 0.5 else []
    for _ in range(1 if rng.random() < 0.8 else 2):
        ask, answer = code_turn(rng) if rng.random() < 0.65 else talk_turn(rng)
        turns += [("user", ask), ("assistant", answer)]
    return turns
