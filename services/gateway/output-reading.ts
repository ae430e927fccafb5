// Which parser reads a request's output: the model's own formats, as far as the request makes use of them.
import { randomBytes } from 'node:crypto';
import { reasoningParserNamed, type ToolParserName, toolParserNamed } from '#kit/output-formats.ts';
import { literalText } from './text-assembler.ts';
import type { OutputParser } from './tool-parsers/events.ts';
import { createOutputParser, reasoningTags, tagsOf } from './tool-parsers/parsers.ts';
import { tagMarks } from './tool-parsers/tag-marks.ts';
import type { TypedRequest } from './typed-request.ts';
import type { Vocabulary } from './vocabulary.ts';

export type OutputReading = {
  /** A parser for one choice. */
  newParser(): OutputParser;
  marks: ReadonlyMap<number, string>;
  parallelCalls: boolean;
};

/** Ids at the prompt's end that are looked at; blanks and a tag spelled in text fit. */
const TAIL_TOKENS = 32;
/** Mistral's chat templates take no other ids than of nine letters and digits. */
const MISTRAL_ID_CHARS = 9;

function newCallId(parser: ToolParserName | null): string {
  const digits = randomBytes(12).toString('hex');
  return parser === 'mistral' ? digits.slice(0, MISTRAL_ID_CHARS) : `call_${digits}`;
}

/** The prompt ends with the open tag, as templates write that start the reasoning themselves. */
function endsOpen(vocabulary: Vocabulary, tokenIds: readonly number[], tag: string): boolean {
  return literalText(vocabulary, tokenIds.slice(-TAIL_TOKENS)).trimEnd().endsWith(tag);
}

/** Null: the output is text and nothing else. */
export function outputReading(
  { prompt }: TypedRequest,
  promptIds: readonly number[],
  vocabulary: Vocabulary,
): OutputReading | null {
  if (prompt.kind !== 'chat') return null;
  const { toolParser = '', reasoningParser = '' } = vocabulary.header;
  const tool = prompt.tools.length > 0 ? toolParserNamed(toolParser) : null;
  const reasoning = reasoningParserNamed(reasoningParser);
  if (tool === null && reasoning === null) return null;
  const format = { tool, reasoning };
  const tags = tagMarks(vocabulary, tagsOf(format));
  const startsInside = reasoning !== null && endsOpen(vocabulary, promptIds, reasoningTags(reasoning).open);
  const options = { tools: prompt.tools, tags, newId: () => newCallId(tool), startsInside };
  return {
    newParser: () => createOutputParser(format, options),
    marks: tags.byId,
    parallelCalls: prompt.parallelToolCalls ?? true,
  };
}
