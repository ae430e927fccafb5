// Names of the formats in which models write tool calls and reasoning: what quern.json may say, the tokenizer finds out and
// the gateway parses.

export const TOOL_PARSERS = [
  'hermes',
  'qwen3-coder',
  'llama3-json',
  'llama-pythonic',
  'deepseek-v3',
  'deepseek-v3.1',
  'mistral',
] as const;
export type ToolParserName = (typeof TOOL_PARSERS)[number];

export const REASONING_PARSERS = ['think', 'mistral-think'] as const;
export type ReasoningParserName = (typeof REASONING_PARSERS)[number];

/** Null for a name that this build does not know. */
export function toolParserNamed(name: string): ToolParserName | null {
  return TOOL_PARSERS.find((one) => one === name) ?? null;
}

export function reasoningParserNamed(name: string): ReasoningParserName | null {
  return REASONING_PARSERS.find((one) => one === name) ?? null;
}
