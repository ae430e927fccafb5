// The published corpus, and the result of a parser in its terms.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ReasoningParserName, ToolParserName } from '#kit/output-formats.ts';
import type { ParsedTool } from '../../../../../services/gateway/tool-parsers/call-parser.ts';
import type { ToolEvent } from '../../../../../services/gateway/tool-parsers/events.ts';
import { createOutputParser } from '../../../../../services/gateway/tool-parsers/parsers.ts';
import { type TagMarks, textTags } from '../../../../../services/gateway/tool-parsers/tag-marks.ts';

export type Expected =
  | { text: string }
  | { reasoning: string }
  | { call: { name: string; arguments: string } }
  | { invalid: string; started: boolean };
export type Case = { name: string; kind: number; output: string; starts_inside?: boolean; expected: Expected[] };
export type CorpusFile = { format: string; reasoning: ReasoningParserName; cases: Case[] };

const folder = join(import.meta.dirname, '../../../../golden/tool-calls');
const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'));

/** Two forms of one parser have a file each. */
export const FILES: Readonly<Record<string, ToolParserName>> = {
  hermes: 'hermes',
  'qwen3-coder': 'qwen3-coder',
  'llama3-json': 'llama3-json',
  'llama-pythonic': 'llama-pythonic',
  'deepseek-v3': 'deepseek-v3',
  'deepseek-v3.1': 'deepseek-v3.1',
  'mistral-list': 'mistral',
  mistral: 'mistral',
};

export const corpus = Object.keys(FILES).map((name) => read(`${name}.json`) as CorpusFile);

type ToolObject = { function: { name: string; parameters: object } };

export const TOOLS: readonly ParsedTool[] = (read('tools.json') as ToolObject[]).map(({ function: fn }) => ({
  name: fn.name,
  parametersSchemaJson: JSON.stringify(fn.parameters),
}));

/** A parser for the outputs of one file. */
export function parserOf(file: string, startsInside = false, tags: TagMarks = textTags) {
  let ids = 0;
  const newId = (): string => {
    ids += 1;
    return `call_${ids}`;
  };
  const format = { tool: FILES[file] as ToolParserName, reasoning: 'think' as const };
  return createOutputParser(format, { tools: TOOLS, tags, newId, startsInside });
}

/** What the events say, in the corpus's terms. A call that failed is content; `begun` holds what went out of it before. */
export type Result = { parts: Expected[]; begun: string[]; ids: string[] };

export function resultOf(events: readonly ToolEvent[]): Result {
  const parts: (Expected & { index?: number })[] = [];
  const begun: string[] = [];
  const ids: string[] = [];
  const last = (): Expected | undefined => parts.at(-1);
  for (const event of events) {
    if (event.kind === 'text' || event.kind === 'reasoning') {
      const before = last();
      if (event.kind === 'text' && before && 'text' in before) before.text += event.text;
      else if (event.kind === 'reasoning' && before && 'reasoning' in before) before.reasoning += event.text;
      else parts.push(event.kind === 'text' ? { text: event.text } : { reasoning: event.text });
    } else if (event.kind === 'call_start') {
      begun[event.index] = '';
      ids[event.index] = event.id;
      parts.push({ call: { name: event.name, arguments: '?' }, index: event.index });
    } else if (event.kind === 'arguments') begun[event.index] += event.text;
    else if (event.kind === 'call_end') {
      const part = parts.find((one) => one.index === event.index) as { call: { arguments: string } };
      part.call.arguments = event.arguments;
    } else {
      const at = parts.findIndex((one) => event.index !== null && one.index === event.index);
      if (at >= 0) parts.splice(at, 1);
      parts.push({ invalid: event.text, started: event.index !== null });
    }
  }
  return { parts: parts.map(({ index: _, ...part }) => part as Expected), begun, ids };
}

/** The result of an output in pieces; every call's pieces are checked against its end. */
export function parse(file: string, pieces: readonly string[], startsInside = false, tags?: TagMarks): Result {
  const parser = parserOf(file, startsInside, tags);
  const events: ToolEvent[] = [];
  for (const piece of pieces) for (const event of parser.push(piece)) events.push({ ...event });
  for (const event of parser.finish()) events.push(event);
  return resultOf(events);
}
