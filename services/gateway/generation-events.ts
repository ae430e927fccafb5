// What a generation tells its front door, and what it needs to know about who asked.
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { Accepted, RequestEnd, TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import type { QuernError } from '#kit/errors.ts';
import type { Principal } from '#kit/principal.ts';
import type { TraceContext } from '#kit/trace.ts';
import type { ChoicePart } from './parsed-assembler.ts';
import type { InfillFacts } from './prompt-rendering.ts';

/** The signal is disconnect and deadline in one. `samplingPrefix` is where sampling stands in the caller's message. */
export type Caller = {
  principal: Principal;
  trace: TraceContext;
  signal: AbortSignal;
  /** Its address, without a port; absent: not known. */
  client?: string | undefined;
  samplingPrefix?: string;
  /** The agent run that this request is a turn of: records of the audit bear its id. */
  runId?: string;
};

/** `choiceTokens`: the completion tokens of each choice, by index. */
export type GenerationEnd = RequestEnd & { infill: InfillFacts | null; choiceTokens: readonly number[] };

/** Where events go. Calls come in this order; exactly one of end and fail is called, and nothing after it. */
export type GenerationSink = {
  /** `promptTokenIds`: empty unless the request asked for token ids. */
  accepted(info: Accepted): void;
  promptLogprobs(entries: TextLogprobs[]): void;
  /** False: deltas are merged until resume(). */
  delta(choice: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): boolean;
  /** Reasoning and tool calls, where the model's output is parsed; absent: they are left out. Answers as delta() does. */
  part?(choice: number, part: Exclude<ChoicePart, { kind: 'text' }>): boolean;
  /** What stopped it, if it was a stop string ('' = none) or a stop token other than the model's own end. */
  choiceFinished(
    choice: number,
    reason: FinishReason,
    stopString: string,
    stopTokenId: number | null,
    scopeEnded: boolean,
  ): void;
  end(end: GenerationEnd): void;
  fail(error: QuernError): void;
};

const OUTCOME: Partial<Record<FinishReason, string>> = {
  [FinishReason.FINISH_REASON_STOP]: 'stop',
  [FinishReason.FINISH_REASON_LENGTH]: 'length',
  [FinishReason.FINISH_REASON_CANCELLED]: 'cancelled',
  [FinishReason.FINISH_REASON_SUPERSEDED]: 'superseded',
};

/** A finish reason as metrics name it. */
export function outcomeOf(reason: FinishReason | null | undefined): string {
  return OUTCOME[reason ?? FinishReason.FINISH_REASON_UNSPECIFIED] ?? 'unknown';
}
