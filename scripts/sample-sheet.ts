// Writes what a running mesh answers to a fixed set of prompts, as Markdown: the sample sheet of a model's card.
//   node scripts/sample-sheet.ts http://127.0.0.1:8000 > models/quern-mini/SAMPLES.md
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';

type Infill = { title: string; language: string; before: string; after: string };

const COMPLETIONS: readonly { language: string; prompt: string }[] = [
  { language: 'python', prompt: 'import os\nimport sys\n\n\ndef main() -> None:\n    """Print the current' },
  {
    language: 'python',
    prompt: 'class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n',
  },
  { language: 'typescript', prompt: 'export function clamp(value: number, min: number, max: number): number {\n' },
  { language: 'javascript', prompt: "const fs = require('fs');\n\nfunction readConfig(path) {\n" },
  { language: 'go', prompt: 'package main\n\nimport "fmt"\n\nfunc main() {\n' },
  { language: 'rust', prompt: 'impl Point {\n    pub fn new(x: f64, y: f64) -> Self {\n' },
];

/** One whole line is missing in each; the hole begins after the indentation. */
const INFILLS: readonly Infill[] = [
  {
    title: 'a return',
    language: 'python',
    before: 'def add(a, b):\n    ',
    after: '\n\n\nprint(add(1, 2))\n',
  },
  {
    title: 'an assignment',
    language: 'python',
    before: 'class Point:\n    def __init__(self, x, y):\n        self.x = x\n        ',
    after: '\n\n    def norm(self):\n        return (self.x ** 2 + self.y ** 2) ** 0.5\n',
  },
  {
    title: 'a block opens',
    language: 'python',
    before: 'def count(items):\n    total = 0\n    ',
    after: '\n        total += 1\n    return total\n',
  },
  {
    title: 'an import',
    language: 'python',
    before: 'import os\n',
    after: '\nimport sys\n\nprint(json.dumps({"cwd": os.getcwd()}))\n',
  },
  {
    title: 'a condition',
    language: 'python',
    before: 'def read(path):\n    ',
    after: '\n        raise ValueError("path is None")\n    with open(path) as file:\n        return file.read()\n',
  },
  {
    title: 'a call in TypeScript',
    language: 'typescript',
    before: 'export function sum(values: number[]): number {\n  let total = 0;\n  for (const value of values) {\n    ',
    after: '\n  }\n  return total;\n}\n',
  },
];

const CHATS: readonly string[] = [
  'Hello',
  'Write a Python function that adds two numbers.',
  'Write a JavaScript function that reverses a string.',
  'What is the capital of France?',
];

async function post<T>(base: string, path: string, body: unknown): Promise<T> {
  const response = await fetch(`${base}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(120_000),
  });
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as T;
}

type Completion = { choices: [{ text: string; finish_reason: string }]; usage: { completion_tokens: number } };
type Chat = {
  choices: [{ message: { content: string }; finish_reason: string }];
  usage: { completion_tokens: number };
};

/** Four backticks: answers may have three. */
const block = (language: string, text: string): string => `\`\`\`\`${language}\n${text}\n\`\`\`\``;
const ending = (reason: string, tokens: number): string => `${tokens} tokens, finish reason \`${reason}\``;

async function completions(base: string): Promise<string[]> {
  const parts: string[] = [];
  for (const { language, prompt } of COMPLETIONS) {
    const body = { prompt, max_tokens: 64, temperature: 0 };
    const { choices, usage } = await post<Completion>(base, '/v1/completions', body);
    const [{ text, finish_reason }] = choices;
    parts.push(block(language, `${prompt}⟦${text}⟧`), ending(finish_reason, usage.completion_tokens));
  }
  return parts;
}

async function infills(base: string): Promise<string[]> {
  const parts: string[] = [];
  for (const { title, language, before, after } of INFILLS) {
    const body = { prompt: before, suffix: after, max_tokens: 48, temperature: 0, stop: ['\n'] };
    const { choices, usage } = await post<Completion>(base, '/v1/completions', body);
    const [{ text, finish_reason }] = choices;
    parts.push(`**${title}**`, block(language, `${before}⟦${text}⟧${after.trimEnd()}`));
    parts.push(ending(finish_reason, usage.completion_tokens));
  }
  return parts;
}

async function chats(base: string): Promise<string[]> {
  const parts: string[] = [];
  for (const content of CHATS) {
    const body = { messages: [{ role: 'user', content }], max_tokens: 96, temperature: 0 };
    const { choices, usage } = await post<Chat>(base, '/v1/chat/completions', body);
    const [{ message, finish_reason }] = choices;
    parts.push(`> ${content}`, block('', message.content), ending(finish_reason, usage.completion_tokens));
  }
  return parts;
}

async function main(): Promise<void> {
  const [base] = process.argv.slice(2);
  if (!base) throw new Error('expected the address of a running mesh, such as http://127.0.0.1:8000');
  const models = (await (await fetch(`${base}/v1/models`)).json()) as { data: [{ id: string }] };
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const head = [
    `# Samples of ${models.data[0].id}`,
    'Answers of a running mesh over HTTP, greedy (`temperature` 0), nothing chosen or left out: what the model wrote stands between ' +
      `⟦ and ⟧. Made by \`scripts/sample-sheet.ts\` at ${commit} on ${cpus()[0]?.model ?? 'an unknown CPU'}.`,
  ];
  const parts = [
    ...head,
    '## Completion, at most 64 tokens',
    ...(await completions(base)),
    '## Infill, one line (`stop` is the newline)',
    ...(await infills(base)),
    '## Chat',
    ...(await chats(base)),
  ];
  process.stdout.write(`${parts.join('\n\n')}\n`);
}

await main();
