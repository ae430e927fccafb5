// Calls as models write them, by format.

export const FORMATS = ['hermes', 'qwen3-coder', 'llama3-json', 'llama-pythonic', 'deepseek-v3', 'deepseek-v3.1', 'mistral-list', 'mistral'] as const;
export type Format = (typeof FORMATS)[number];
/** Arguments in their order, values as JSON text. */
export type Call = { name: string; args: [string, string][] };
export type Part = string | Call;

const json = ({ args }: Call): string => `{${args.map(([key, value]) => `${JSON.stringify(key)}: ${value}`).join(', ')}}`;

/** JSON text as a Python literal; its strings stay as they are. */
const python = (text: string): string =>
  text.replace(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null)\b/g, (part) => ({ true: 'True', false: 'False', null: 'None' })[part] ?? pythonString(part));

const pythonString = (part: string): string => `'${(JSON.parse(part) as string).replace(/[\\'\n\r\t]/g, (char) => ({ '\n': '\\n', '\r': '\\r', '\t': '\\t' })[char] ?? `\\${char}`)}'`;

const xmlValue = (value: string): string => (value.startsWith('"') ? (JSON.parse(value) as string) : value);

type Writer = (calls: Call[]) => string;

const each = (one: (call: Call) => string, between = '\n'): Writer => (calls) => calls.map(one).join(between);

const deepseek = (one: (call: Call) => string): Writer => (calls) =>
  `<｜tool▁calls▁begin｜>${calls.map((call) => `<｜tool▁call▁begin｜>${one(call)}<｜tool▁call▁end｜>`).join('\n')}<｜tool▁calls▁end｜>`;

const WRITERS: Record<Format, Writer> = {
  hermes: each((call) => `<tool_call>\n{"name": "${call.name}", "arguments": ${json(call)}}\n</tool_call>`),
  'qwen3-coder': each(
    ({ name, args }) =>
      `<tool_call>\n<function=${name}>\n${args.map(([key, value]) => `<parameter=${key}>\n${xmlValue(value)}\n</parameter>\n`).join('')}</function>\n</tool_call>`,
  ),
  'llama3-json': each((call) => `{"name": "${call.name}", "parameters": ${json(call)}}`, '; '),
  'llama-pythonic': (calls) =>
    `[${calls.map(({ name, args }) => `${name}(${args.map(([key, value]) => `${key}=${python(value)}`).join(', ')})`).join(', ')}]`,
  'deepseek-v3': deepseek((call) => `function<｜tool▁sep｜>${call.name}\n\`\`\`json\n${json(call)}\n\`\`\``),
  'deepseek-v3.1': deepseek((call) => `${call.name}<｜tool▁sep｜>${json(call)}`),
  'mistral-list': (calls) => `[TOOL_CALLS] [${calls.map((call) => `{"name": "${call.name}", "arguments": ${json(call)}}`).join(', ')}]`,
  mistral: each((call) => `[TOOL_CALLS]${call.name}[ARGS]${json(call)}`, ''),
};

/** An answer: text as it is, neighbouring calls together. */
export function write(format: Format, parts: readonly Part[]): string {
  let output = '';
  for (let i = 0; i < parts.length; ) {
    const part = parts[i]!;
    if (typeof part === 'string') {
      output += part;
      i += 1;
      continue;
    }
    let end = i;
    while (end < parts.length && typeof parts[end] !== 'string') end += 1;
    output += WRITERS[format](parts.slice(i, end) as Call[]);
    i = end;
  }
  return output;
}
