// The Finished event of a request, from the engine's own end or from a refusal before it got there.
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { Finished } from '#gen/quern/engine/v1/engine.ts';
import type { QuernError } from '#kit/errors.ts';
import { toStatusProto } from '#kit/rpc/status.ts';
import { nativeError } from './native.ts';
import type { NativeFinished } from './step-decoder.ts';

/** The error of an end, or null. `override` is why this side ended it. */
export function errorOf(end: NativeFinished, override: QuernError | null): QuernError | null {
  if (override) return override;
  return end.statusCode === 0 ? null : nativeError(end.statusCode, end.message);
}

export function finishedEvent(handle: number, end: NativeFinished, override: QuernError | null): Finished {
  const error = errorOf(end, override);
  return {
    handle,
    choices: end.choices.map(({ choice, reason, stopTokenId }) => ({
      choice,
      reason: override ? FinishReason.FINISH_REASON_ERROR : (reason as FinishReason),
      stopTokenId: stopTokenId ?? undefined,
    })),
    usage: {
      promptTokens: end.promptTokens,
      cachedTokens: end.cachedTokens,
      completionTokens: end.completionTokens,
    },
    timings: {
      queueNs: end.queueNs,
      prefillNs: end.prefillNs,
      decodeNs: end.decodeNs,
      prefillChunks: end.prefillChunks,
      decodeSteps: end.decodeSteps,
      preemptions: end.preemptions,
      receivedUnixNs: end.receivedUnixNs,
    },
    status: error ? toStatusProto(error) : undefined,
    seed: end.seed,
  };
}

/** The end of a handle that never reached the engine: one choice for each that was asked for. */
export function refusedEvent(handle: number, error: QuernError, choices: number): Finished {
  return {
    handle,
    choices: Array.from({ length: Math.min(Math.max(choices, 1), 16) }, (_, choice) => ({
      choice,
      reason: FinishReason.FINISH_REASON_ERROR,
      stopTokenId: undefined,
    })),
    usage: undefined,
    timings: undefined,
    status: toStatusProto(error),
    seed: 0n,
  };
}
