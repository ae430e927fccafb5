// What POST /infill answers: llama.cpp's members, and ours under "quern".
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { CollectedChoice } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { type GenerationEnd, outcomeOf } from '../generation-events.ts';
import { type InfillBody, tokensWanted } from './infill-request.ts';

/** How a choice ended; `text` and `tokenIds` are empty at the end of a stream, which has given them. */
export type EndedChoice = {
  index: number;
  reason: FinishReason;
  stopString: string;
  scopeEnded: boolean;
  text: string;
  hasNewLine: boolean;
  tokenIds: readonly number[];
};

const milliseconds = (ns: bigint | undefined): number => Number(ns ?? 0n) / 1e6;
const ratio = (of: number, by: number): number => (by > 0 ? of / by : 0);

/** llama.cpp counts as prompt_n what had to be computed, without what the cache held. */
function timingsOf(end: GenerationEnd, predicted: number) {
  const cached = end.usage?.cachedTokens ?? 0;
  const read = (end.usage?.promptTokens ?? 0) - cached;
  const promptMs = milliseconds(end.timings?.prefillNs);
  const predictedMs = milliseconds(end.timings?.decodeNs);
  return {
    cache_n: cached,
    prompt_n: read,
    prompt_ms: promptMs,
    prompt_per_token_ms: ratio(promptMs, read),
    prompt_per_second: ratio(read * 1_000, promptMs),
    predicted_n: predicted,
    predicted_ms: predictedMs,
    predicted_per_token_ms: ratio(predictedMs, predicted),
    predicted_per_second: ratio(predicted * 1_000, predictedMs),
  };
}

function stopType(reason: FinishReason, stopString: string): string {
  if (stopString !== '') return 'word';
  return reason === FinishReason.FINISH_REASON_STOP ? 'eos' : 'limit';
}

function contextOf({ models }: GatewayContext, model: string): number {
  const served = models.all().find(({ name }) => name === model);
  return (served && models.description(served)?.contextLength) ?? 0;
}

function answerOf(context: GatewayContext, body: InfillBody, choice: EndedChoice, end: GenerationEnd) {
  const { index, reason, stopString } = choice;
  const { family = '', droppedPrefixTokens = 0, droppedSuffixTokens = 0, droppedChunks = 0 } = end.infill ?? {};
  const { maxPromptTokens = 0, contextBound = false } = end.infill ?? {};
  const contextLength = contextOf(context, end.model);
  const evaluated = end.usage?.promptTokens ?? 0;
  const predicted = end.choiceTokens[index] ?? 0;
  const held = evaluated + predicted;
  const ranOut = reason === FinishReason.FINISH_REASON_LENGTH && contextLength > 0 && held >= contextLength;
  return {
    index,
    content: choice.text,
    tokens: choice.tokenIds,
    id_slot: 0,
    stop: true,
    model: end.model,
    // llama.vscode shows n_ctx beside what is cached, and fails without them.
    generation_settings: { n_ctx: contextLength, n_predict: tokensWanted(body) ?? -1, stream: body.stream ?? false },
    tokens_predicted: predicted,
    tokens_evaluated: evaluated,
    tokens_cached: held, // what the cache holds after it, as there
    has_new_line: choice.hasNewLine,
    // llama.vim warns then that the context is full, which it is not where less was wanted.
    truncated: ranOut || (contextBound && droppedPrefixTokens + droppedSuffixTokens + droppedChunks > 0),
    stop_type: stopType(reason, stopString),
    stopping_word: stopString,
    timings: timingsOf(end, predicted),
    quern: {
      request_id: end.requestId,
      trace_id: end.traceId,
      finish_reason: outcomeOf(reason),
      scope_ended: choice.scopeEnded,
      fim_family: family,
      dropped_prefix_tokens: droppedPrefixTokens,
      dropped_suffix_tokens: droppedSuffixTokens,
      dropped_chunks: droppedChunks,
      max_prompt_tokens: maxPromptTokens,
    },
  };
}

function valueAt(answer: unknown, path: string): unknown {
  return path.split('/').reduce<unknown>((value, name) => {
    const isObject = typeof value === 'object' && value !== null && Object.hasOwn(value, name);
    return isObject ? (value as Record<string, unknown>)[name] : undefined;
  }, answer);
}

/** Members by their paths, which are their names in the answer too; unknown ones are left out. */
function picked(answer: object, fields: readonly string[] | null | undefined): object {
  if (!fields || fields.length === 0) return answer;
  const found = fields.map((path): [string, unknown] => [path, valueAt(answer, path)]);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined));
}

/** One choice's answer, or what the caller wants to see of it. */
export function infillAnswer(
  context: GatewayContext,
  body: InfillBody,
  choice: EndedChoice,
  end: GenerationEnd,
): object {
  return picked(answerOf(context, body, choice, end), body.response_fields);
}

export function endedChoice({
  index,
  finishReason,
  stopString,
  scopeEnded,
  text,
  tokenIds,
}: CollectedChoice): EndedChoice {
  return { index, reason: finishReason, stopString, scopeEnded, text, hasNewLine: text.includes('\n'), tokenIds };
}
