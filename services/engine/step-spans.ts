// Which engine steps are shown: one in many, and those that took far longer than steps of their kind do. A step serves many
// requests, so it is a trace of its own, linked with the phases of the requests in its batch.
import {
  ATTR_STEP_BATCH_SIZE,
  ATTR_STEP_DECODE_TOKENS,
  ATTR_STEP_FORWARD_MS,
  ATTR_STEP_KV_BLOCKS,
  ATTR_STEP_PREFILL_TOKENS,
  ATTR_STEP_SHOWN,
} from '#kit/semconv.ts';
import { type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';
import { SLOW_STEP_FACTOR, SLOW_STEP_GAP_MS, SLOW_STEP_MIN_MS, STEP_LEARN_COUNT } from './limits.ts';
import type { NativeRun } from './step-decoder.ts';

const BLEND = 0.1;

/** What a step should take: a moving average of decode-only steps, plus one per prefill token. */
export class StepCost {
  #decodeMs = 0;
  #prefillTokenMs = 0;
  #seen = 0;

  /** True when this one took far longer than expected. Learns from every step, from outliers only so much. */
  isSlow(tookMs: number, prefillTokens: number): boolean {
    const expectedMs = this.#decodeMs + this.#prefillTokenMs * prefillTokens;
    const known = this.#seen >= STEP_LEARN_COUNT;
    const slow = known && tookMs > SLOW_STEP_MIN_MS && tookMs > SLOW_STEP_FACTOR * expectedMs;
    const boundedMs = known ? Math.min(tookMs, SLOW_STEP_FACTOR * expectedMs) : tookMs;
    this.#seen += 1;
    const blend = Math.max(BLEND, 1 / this.#seen);
    if (prefillTokens === 0) this.#decodeMs += blend * (boundedMs - this.#decodeMs);
    else {
      const perToken = Math.max(0, boundedMs - this.#decodeMs) / prefillTokens;
      this.#prefillTokenMs += blend * (perToken - this.#prefillTokenMs);
    }
    return slow;
  }
}

/** Chooses the steps to show. `every`: one of this many; 0 shows only slow ones. */
export class StepChooser {
  readonly #every: number;
  readonly #cost = new StepCost();
  #count = 0;
  #slowAtMs = Number.NEGATIVE_INFINITY;

  constructor(every: number) {
    this.#every = every;
  }

  /** Why the step is shown, or null. */
  choose({ forwardNs, prefillTokens }: NativeRun, nowMs: number): 'sample' | 'slow' | null {
    this.#count += 1;
    const slow = this.#cost.isSlow(Number(forwardNs) / 1e6, prefillTokens);
    if (slow && nowMs - this.#slowAtMs >= SLOW_STEP_GAP_MS) {
      this.#slowAtMs = nowMs;
      return 'slow';
    }
    return this.#every > 0 && this.#count % this.#every === 0 ? 'sample' : null;
  }
}

/** Writes the span of a step; answers its context, or null when the trace is not recorded. */
export function writeStep(
  sink: SpanSink,
  run: NativeRun,
  shown: 'sample' | 'slow',
  links: TraceContext[],
): TraceContext | null {
  const span = startSpan(sink, 'engine.step', null, {
    startUnixNs: run.beginUnixNs,
    links,
    attributes: {
      [ATTR_STEP_SHOWN]: shown,
      [ATTR_STEP_BATCH_SIZE]: run.slices.length / 3,
      [ATTR_STEP_PREFILL_TOKENS]: run.prefillTokens,
      [ATTR_STEP_DECODE_TOKENS]: run.decodeTokens,
      [ATTR_STEP_KV_BLOCKS]: run.heldBlocks,
      [ATTR_STEP_FORWARD_MS]: Number(run.forwardNs) / 1e6,
    },
  });
  span.end({ endUnixNs: run.beginUnixNs + run.forwardNs });
  return span.context.sampled ? span.context : null;
}
