// One request as every front door (gRPC, OpenAI, vLLM and llama.cpp shapes) hands it to generation, and its checks.
import type { PriorityClass, SamplingParams } from '#gen/quern/common/v1/common.ts';
import type { ChatMessage, InfillChunk, ParseSpecial, ToolDefinition } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { type FieldViolation, QuernError } from '#kit/errors.ts';
import {
  CHOICES_MAX,
  COALESCE_MS_MAX,
  LOGIT_BIAS_ENTRIES_MAX,
  LOGPROBS_MAX,
  MESSAGES_MAX,
  REQUEST_ID_CHARS_MAX,
  STOP_STRING_BYTES_MAX,
  STOP_STRINGS_MAX,
  STOP_TOKEN_IDS_MAX,
  SUPERSEDE_KEY_CHARS_MAX,
  TOOLS_MAX,
} from './limits.ts';
import type { Scope } from './scope/infill-end.ts';

export type Prompt =
  | { kind: 'text'; text: string; parseSpecial: ParseSpecial; addBos: boolean }
  | { kind: 'token_ids'; tokenIds: readonly number[] }
  | {
      kind: 'infill';
      prefix: string;
      suffix: string;
      path: string;
      repository: string;
      chunks: readonly InfillChunk[];
    }
  | {
      kind: 'chat';
      messages: readonly ChatMessage[];
      tools: readonly ToolDefinition[];
      enableThinking: boolean | undefined;
      templateVariables: Record<string, unknown> | undefined;
      addGenerationPrompt: boolean;
      continueFinalMessage: boolean;
      /** False: of an answer's tool calls only the first is kept; absent = true. */
      parallelToolCalls?: boolean;
    };

export type TypedRequest = {
  /** Names the request in metrics. */
  method: 'complete' | 'infill' | 'chat';
  /** "" = the only served model. */
  model: string;
  prompt: Prompt;
  /** maxTokens absent: what fits. */
  sampling: SamplingParams;
  /** Tools whose definitions stand in the prompt's text, beside those of a chat; absent = none. */
  describedTools?: readonly ToolDefinition[];
  /** Tokens of an infill's prompt at most; absent = as the model is best given, else what fits. */
  promptTokensMax?: number;
  /** Where maxTokens is absent, at most so many; absent = what fits. */
  completionTokensMax?: number;
  stop: readonly string[];
  /** How many of them; absent = STOP_STRINGS_MAX. */
  stopStringsMax?: number;
  /** Stop strings that a mode adds; not counted among the caller's. */
  modeStop: readonly string[];
  /** Where code around the cursor ends the text; absent = nowhere. */
  scope?: Scope;
  echo: boolean;
  /** "" = chosen here. */
  requestId: string;
  priorityClass: PriorityClass;
  priority: number;
  supersedeKey: string;
  coalesceMs: number;
  returnTokenIds: boolean;
  /** False: control tokens are written out in the text; absent = true. */
  skipSpecialTokens?: boolean;
  /** From now; null = none. */
  timeoutMs: number | null;
  /** From now; ends with what there is, as LENGTH; null = none. */
  softDeadlineMs: number | null;
  /** From a choice's first token; it ends, as LENGTH, with the line that is under way by then. Absent = as long as it takes. */
  lineDeadlineMs?: number;
};

export const REQUEST_ID = new RegExp(`^[A-Za-z0-9._:-]{1,${REQUEST_ID_CHARS_MAX}}$`);

/** Sampling settings with nothing set. */
export function emptySampling(): SamplingParams {
  return {
    maxTokens: undefined,
    minTokens: undefined,
    temperature: undefined,
    topP: undefined,
    topK: undefined,
    minP: undefined,
    repetitionPenalty: undefined,
    frequencyPenalty: undefined,
    presencePenalty: undefined,
    seed: undefined,
    logitBias: new Map(),
    stopTokenIds: [],
    ignoreEos: undefined,
    logprobs: undefined,
    promptLogprobs: undefined,
    n: undefined,
  };
}

type Range = { min: number; max: number; openMin?: boolean; openMax?: boolean };

const RANGES: readonly [keyof SamplingParams, string, Range][] = [
  ['temperature', 'temperature', { min: 0, max: 2 }],
  ['topP', 'top_p', { min: 0, max: 1, openMin: true }],
  ['minP', 'min_p', { min: 0, max: 1, openMax: true }],
  ['repetitionPenalty', 'repetition_penalty', { min: 0, max: 2, openMin: true }],
  ['frequencyPenalty', 'frequency_penalty', { min: -2, max: 2 }],
  ['presencePenalty', 'presence_penalty', { min: -2, max: 2 }],
  ['logprobs', 'logprobs', { min: 0, max: LOGPROBS_MAX }],
  ['promptLogprobs', 'prompt_logprobs', { min: 0, max: LOGPROBS_MAX }],
  ['n', 'n', { min: 1, max: CHOICES_MAX }],
];

function inRange(value: number, range: Range): boolean {
  if (!Number.isFinite(value)) return false;
  return (
    (range.openMin ? value > range.min : value >= range.min) && (range.openMax ? value < range.max : value <= range.max)
  );
}

function rangeText(range: Range): string {
  return `${range.openMin ? '(' : '['}${range.min}, ${range.max}${range.openMax ? ')' : ']'}`;
}

function samplingViolations(sampling: SamplingParams, prefix: string): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const refuse = (field: string, description: string): void => {
    violations.push({ field: prefix + field, description });
  };
  for (const [key, field, range] of RANGES) {
    const value = sampling[key] as number | undefined;
    if (value !== undefined && !inRange(value, range)) refuse(field, `expected ${rangeText(range)}, got ${value}`);
  }
  const { maxTokens, minTokens, logitBias, stopTokenIds } = sampling;
  if (minTokens !== undefined && maxTokens !== undefined && minTokens > maxTokens) {
    refuse('min_tokens', `expected at most max_tokens (${maxTokens}), got ${minTokens}`);
  }
  if (logitBias.size > LOGIT_BIAS_ENTRIES_MAX) {
    refuse('logit_bias', `expected at most ${LOGIT_BIAS_ENTRIES_MAX} entries, got ${logitBias.size}`);
  }
  for (const [id, bias] of logitBias) {
    if (!inRange(bias, { min: -100, max: 100 })) refuse(`logit_bias[${id}]`, `expected [-100, 100], got ${bias}`);
  }
  if (stopTokenIds.length > STOP_TOKEN_IDS_MAX) {
    refuse('stop_token_ids', `expected at most ${STOP_TOKEN_IDS_MAX} ids, got ${stopTokenIds.length}`);
  }
  return violations;
}

function stopViolations({ stop, stopStringsMax = STOP_STRINGS_MAX }: TypedRequest): FieldViolation[] {
  if (stop.length > stopStringsMax) {
    return [{ field: 'stop', description: `expected at most ${stopStringsMax} stop strings, got ${stop.length}` }];
  }
  return stop.flatMap((text, i) => {
    const size = Buffer.byteLength(text);
    if (size >= 1 && size <= STOP_STRING_BYTES_MAX && text.isWellFormed()) return [];
    const actual = text.isWellFormed() ? `${size} bytes` : 'half a surrogate pair';
    return [{ field: `stop[${i}]`, description: `expected 1..${STOP_STRING_BYTES_MAX} bytes of text, got ${actual}` }];
  });
}

function promptViolations(prompt: Prompt): FieldViolation[] {
  if (prompt.kind === 'token_ids' && prompt.tokenIds.length === 0) {
    return [{ field: 'prompt', description: 'expected at least one token id, got none' }];
  }
  if (prompt.kind !== 'chat') return [];
  const { messages, tools } = prompt;
  const violations: FieldViolation[] = [];
  if (messages.length === 0 || messages.length > MESSAGES_MAX) {
    violations.push({ field: 'messages', description: `expected 1..${MESSAGES_MAX} messages, got ${messages.length}` });
  }
  if (tools.length > TOOLS_MAX) {
    violations.push({ field: 'tools', description: `expected at most ${TOOLS_MAX} tools, got ${tools.length}` });
  }
  return violations;
}

/** One INVALID_ARGUMENT for a list of refused fields; the message is the first one's. */
export function invalidArgument(fields: readonly FieldViolation[]): QuernError {
  const [first, ...rest] = fields;
  const more = rest.length === 0 ? '' : ` (and ${rest.length} more: ${rest.map((f) => f.field).join(', ')})`;
  return new QuernError('INVALID_ARGUMENT', `${first?.field}: ${first?.description}${more}`, {
    reason: 'INVALID_ARGUMENT',
    fields: [...fields],
  });
}

/** Throws INVALID_ARGUMENT naming every refused field. `samplingPrefix` is where sampling stands: "sampling." in gRPC. */
export function checkRequest(request: TypedRequest, samplingPrefix: string): void {
  const fields = [
    ...promptViolations(request.prompt),
    ...samplingViolations(request.sampling, samplingPrefix),
    ...stopViolations(request),
  ];
  if (request.requestId !== '' && !REQUEST_ID.test(request.requestId)) {
    const description = `expected 1..${REQUEST_ID_CHARS_MAX} of [A-Za-z0-9._:-], got ${request.requestId.length} characters`;
    fields.push({ field: 'request_id', description });
  }
  if (request.supersedeKey.length > SUPERSEDE_KEY_CHARS_MAX) {
    const description = `expected at most ${SUPERSEDE_KEY_CHARS_MAX} characters, got ${request.supersedeKey.length}`;
    fields.push({ field: 'supersede_key', description });
  }
  if (request.coalesceMs > COALESCE_MS_MAX) {
    fields.push({ field: 'coalesce_ms', description: `expected 0..${COALESCE_MS_MAX}, got ${request.coalesceMs}` });
  }
  if (fields.length > 0) throw invalidArgument(fields);
}
