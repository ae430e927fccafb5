// In which formats a model writes tool calls and reasoning: quern.json says so, or its own chat template shows it.
import { QuernError } from '#kit/errors.ts';
import {
  REASONING_PARSERS,
  type ReasoningParserName,
  reasoningParserNamed,
  TOOL_PARSERS,
  type ToolParserName,
  toolParserNamed,
} from '#kit/output-formats.ts';
import type { ChatTemplate } from './chat-template.ts';
import type { ModelFiles } from './model-files.ts';

export type OutputFormat = { toolParser: ToolParserName | null; reasoningParser: ReasoningParserName | null };

type Sign<T> = { parser: T; holds: readonly string[]; lacks?: string };

/** What a template that writes such calls holds, the surest sign first. */
const TOOL_SIGNS: readonly Sign<ToolParserName>[] = [
  { parser: 'qwen3-coder', holds: ['<function=', '<parameter='] },
  { parser: 'deepseek-v3', holds: ['<｜tool▁call▁begin｜>', '```json'] },
  { parser: 'deepseek-v3.1', holds: ['<｜tool▁call▁begin｜>'] },
  { parser: 'mistral', holds: ['[TOOL_CALLS]'] },
  // The prompt of these models shows the form of a call by such an example.
  { parser: 'llama-pythonic', holds: ['func_name1(param'] },
  { parser: 'llama3-json', holds: ['<|python_tag|>', '"parameters"'] },
  { parser: 'llama3-json', holds: ['{"name": function name, "parameters":'] },
  // GLM has the same tags around another format.
  { parser: 'hermes', holds: ['<tool_call>', '</tool_call>'], lacks: '<arg_key>' },
];

const REASONING_SIGNS: readonly Sign<ReasoningParserName>[] = [
  { parser: 'think', holds: ['</think>'] },
  { parser: 'think', holds: ['<think>'] },
  { parser: 'mistral-think', holds: ['[THINK]'] },
];

type Choice<T> = {
  key: 'tool_parser' | 'reasoning_parser';
  known: readonly T[];
  named(name: string): T | null;
  signs: readonly Sign<T>[];
};

function choose<T extends string>(
  { dir, quern }: ModelFiles,
  template: ChatTemplate | null,
  from: Choice<T>,
): T | null {
  const { key, known, named, signs } = from;
  const given = quern[key];
  if (given === undefined || given === null) {
    const source = template?.source ?? '';
    const shows = ({ holds, lacks }: Sign<T>): boolean =>
      holds.every((text) => source.includes(text)) && (lacks === undefined || !source.includes(lacks));
    return signs.find(shows)?.parser ?? null;
  }
  if (given === 'none' || given === '') return null;
  const parser = typeof given === 'string' ? named(given) : null;
  if (parser !== null) return parser;
  const got = JSON.stringify(given).slice(0, 100);
  const message = `${dir}/quern.json: expected ${key} to be none or one of ${known.join(', ')}, got ${got}; correct it`;
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' });
}

/** Null parsers: the model has nothing of the kind. Throws MODEL_LOAD_FAILED when quern.json names a format that does not exist. */
export function chooseOutputFormat(files: ModelFiles, template: ChatTemplate | null): OutputFormat {
  return {
    toolParser: choose<ToolParserName>(files, template, {
      key: 'tool_parser',
      known: TOOL_PARSERS,
      named: toolParserNamed,
      signs: TOOL_SIGNS,
    }),
    reasoningParser: choose<ReasoningParserName>(files, template, {
      key: 'reasoning_parser',
      known: REASONING_PARSERS,
      named: reasoningParserNamed,
      signs: REASONING_SIGNS,
    }),
  };
}
