// The small objects inside OpenAI's answers: usage, timings, finish reasons, log probabilities in both shapes.
import { FinishReason, type Timings, type Usage } from '#gen/quern/common/v1/common.ts';
import type { TextLogprobs, TopLogprob } from '#gen/quern/gateway/v1/gateway.ts';
import type { GenerationEnd } from '../generation-events.ts';

export function usageObject(usages: readonly (Usage | undefined)[]) {
  const sum = { prompt: 0, cached: 0, completion: 0 };
  for (const usage of usages) {
    sum.prompt += usage?.promptTokens ?? 0;
    sum.cached += usage?.cachedTokens ?? 0;
    sum.completion += usage?.completionTokens ?? 0;
  }
  return {
    prompt_tokens: sum.prompt,
    completion_tokens: sum.completion,
    total_tokens: sum.prompt + sum.completion,
    prompt_tokens_details: { cached_tokens: sum.cached },
  };
}

/** To the microsecond: below it the clock says nothing. */
function milliseconds(ns: bigint): number {
  return Math.round(Number(ns) / 1_000) / 1_000;
}

/**
 * Where the time went at the engine, milliseconds. Several prompts run side by side: of each phase the longest. Null when
 * no engine told, as after one that was lost at the very end.
 */
function timingsObject(timings: readonly (Timings | undefined)[]) {
  const known = timings.filter((one) => one !== undefined);
  if (known.length === 0) return null;
  const longest = (of: (one: Timings) => bigint): number => Math.max(...known.map((one) => milliseconds(of(one))));
  return {
    queue_ms: longest((one) => one.queueNs),
    prefill_ms: longest((one) => one.prefillNs),
    decode_ms: longest((one) => one.decodeNs),
  };
}

/** Of models whose reasoning is told apart. */
function reasoningDetails(ends: readonly GenerationEnd[]) {
  const counts = ends.flatMap(({ reasoningTokens }) => (reasoningTokens === undefined ? [] : [reasoningTokens]));
  if (counts.length === 0) return {};
  return { completion_tokens_details: { reasoning_tokens: counts.reduce((sum, count) => sum + count, 0) } };
}

/** What stands at the end of an answer beside its choices. */
export function endParts(ends: readonly GenerationEnd[]) {
  const usage = { ...usageObject(ends.map((end) => end.usage)), ...reasoningDetails(ends) };
  return { usage, timings: timingsObject(ends.map((end) => end.timings)) };
}

/** The timings as a further field of a JSON text. */
export function timingsField(ends: readonly GenerationEnd[]): string {
  return `,"timings":${JSON.stringify(timingsObject(ends.map((end) => end.timings)))}`;
}

/** OpenAI knows stop, length and tool_calls; what ended from outside is "cancelled". */
export function finishReasonText(reason: FinishReason, hasCalls = false): string {
  if (reason === FinishReason.FINISH_REASON_STOP) return hasCalls ? 'tool_calls' : 'stop';
  return reason === FinishReason.FINISH_REASON_LENGTH ? 'length' : 'cancelled';
}

/** vLLM's stop_reason: the stop string, else the stop token's id, else null (the model's own end). */
export function stopReason(stopString: string, stopTokenId: number | null | undefined): string | number | null {
  return stopString || (stopTokenId ?? null);
}

/** Legacy completions: parallel arrays. The chosen token is among the alternatives, as in vLLM. */
export function legacyLogprobs(entries: readonly TextLogprobs[]) {
  return {
    tokens: entries.map((entry) => entry.token),
    token_logprobs: entries.map((entry) => entry.logprob ?? null),
    top_logprobs: entries.map((entry) => {
      if (entry.logprob === undefined) return null;
      // A token may be named like a property of objects: entries, not assignments.
      const top = new Map(entry.top.map((one): [string, number] => [one.token, one.logprob]));
      if (!top.has(entry.token)) top.set(entry.token, entry.logprob);
      return Object.fromEntries(top);
    }),
    text_offset: entries.map((entry) => entry.textOffset),
  };
}

function tokenObject({ token, bytes, logprob }: TopLogprob) {
  return { token, logprob, bytes: [...bytes] };
}

/** Chat: one object per token. */
export function chatLogprobs(entries: readonly TextLogprobs[]) {
  const content = entries.map(({ token, bytes, logprob, top }) => ({
    token,
    logprob: logprob ?? 0,
    bytes: [...bytes],
    top_logprobs: top.map(tokenObject),
  }));
  return { content, refusal: null };
}

/** vLLM's prompt_logprobs: per position null or { id: { logprob, rank, decoded_token } }. */
export function promptLogprobsObject(entries: readonly TextLogprobs[]) {
  return entries.map((entry) => {
    if (entry.logprob === undefined) return null;
    const ranked = [entry, ...entry.top].map(({ tokenId, logprob, rank, token }): [string, object] => [
      String(tokenId),
      { logprob, rank, decoded_token: token },
    ]);
    return Object.fromEntries(ranked);
  });
}
