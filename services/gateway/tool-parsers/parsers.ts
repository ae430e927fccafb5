// The formats by the names that a model's manifest uses, and a parser for one choice's output.
import type { ReasoningParserName, ToolParserName } from '#kit/output-formats.ts';
import { CallParser, type Calls, type Format, type ParserOptions } from './call-parser.ts';
import { DEEPSEEK_TAGS, deepseekV3, deepseekV31 } from './deepseek.ts';
import type { OutputParser } from './events.ts';
import type { Step } from './feed.ts';
import { HERMES_TAGS, hermes } from './hermes.ts';
import { LLAMA_PYTHONIC_TAGS, llamaPythonic } from './llama-pythonic.ts';
import { LLAMA_JSON_TAGS, llama3Json } from './llama3-json.ts';
import { MISTRAL_TAGS, mistral } from './mistral.ts';
import { QWEN3_CODER_TAGS, qwen3Coder } from './qwen3-coder.ts';
import { ReasoningParser, type ReasoningTags } from './reasoning.ts';

type ToolFormat = { read: Format; tags: readonly string[] };

const TOOL_FORMATS: Readonly<Record<ToolParserName, ToolFormat>> = {
  hermes: { read: hermes, tags: HERMES_TAGS },
  'qwen3-coder': { read: qwen3Coder, tags: QWEN3_CODER_TAGS },
  'llama3-json': { read: llama3Json, tags: LLAMA_JSON_TAGS },
  'llama-pythonic': { read: llamaPythonic, tags: LLAMA_PYTHONIC_TAGS },
  'deepseek-v3': { read: deepseekV3, tags: DEEPSEEK_TAGS },
  'deepseek-v3.1': { read: deepseekV31, tags: DEEPSEEK_TAGS },
  mistral: { read: mistral, tags: MISTRAL_TAGS },
};

const REASONING_TAGS: Readonly<Record<ReasoningParserName, ReasoningTags>> = {
  think: { open: '<think>', close: '</think>' },
  'mistral-think': { open: '[THINK]', close: '[/THINK]' },
};

/** What of a model's output is more than text; null: nothing of the kind. */
export type OutputFormat = { tool: ToolParserName | null; reasoning: ReasoningParserName | null };

/** All tags of a format: the ones that may be ids. */
export function tagsOf({ tool, reasoning }: OutputFormat): string[] {
  const thinking = reasoning === null ? [] : Object.values(REASONING_TAGS[reasoning]);
  return [...(tool === null ? [] : TOOL_FORMATS[tool].tags), ...thinking];
}

export function reasoningTags(name: ReasoningParserName): ReasoningTags {
  return REASONING_TAGS[name];
}

function* text(calls: Calls): Step {
  yield* calls.restIsText();
}

/** `startsInside`: the prompt ends inside the reasoning. */
export function createOutputParser(
  { tool, reasoning }: OutputFormat,
  options: ParserOptions & { startsInside: boolean },
): OutputParser {
  const answer = new CallParser(tool === null ? text : TOOL_FORMATS[tool].read, options);
  if (reasoning === null) return answer;
  const { open, close } = REASONING_TAGS[reasoning];
  const { tags, startsInside } = options;
  return new ReasoningParser({
    tags: { open: tags.of(open), close: tags.of(close) },
    startsInside,
    restore: tags.restore,
    answer,
  });
}
