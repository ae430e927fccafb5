// Finished spans on their way to the collector: a bounded queue, one batch on its way at a time. The queue never makes a
// caller wait: what finds it full is dropped and counted. Spans are encoded some at a time: one by one, between the work of requests,
// each costs several times as much, since the encoder's code has left the processor's caches by then.
import type { SpanRecord, SpanSink } from '../trace.ts';
import {
  TRACE_BATCH_SPANS,
  TRACE_CLOSE_MS,
  TRACE_ENCODE_SPANS,
  TRACE_FLUSH_MS,
  TRACE_QUEUE_SPANS_MAX,
} from './limits.ts';

/** queue_full: nobody took them in time. refused: the collector was not reachable or did not take them. closed: too late. */
export type DropReason = 'queue_full' | 'refused' | 'closed';

export type SpanQueueOptions<T> = {
  /** What is kept of a span until it is sent. Must not throw. */
  encode(span: SpanRecord): T;
  /** Sends one batch. Rejects when it was not taken. */
  send(spans: readonly T[]): Promise<void>;
  onDropped(count: number, reason: DropReason, cause?: unknown): void;
  onSent?(count: number): void;
  rootRatio?: number;
  spansMax?: number;
  batchSpans?: number;
  flushMs?: number;
  closeMs?: number;
};

/** Invariant: every span given to record() is sent once or counted as dropped once. */
export class SpanQueue<T> implements SpanSink {
  readonly rootRatio: number;
  readonly #options: Required<Omit<SpanQueueOptions<T>, 'rootRatio' | 'onSent'>> & Pick<SpanQueueOptions<T>, 'onSent'>;
  /** Ended, not encoded yet. */
  #ended: SpanRecord[] = [];
  #waiting: T[] = [];
  #timer: NodeJS.Timeout | null = null;
  #sending: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  #closed = false;

  constructor(options: SpanQueueOptions<T>) {
    this.rootRatio = options.rootRatio ?? 1;
    this.#options = {
      spansMax: TRACE_QUEUE_SPANS_MAX,
      batchSpans: TRACE_BATCH_SPANS,
      flushMs: TRACE_FLUSH_MS,
      closeMs: TRACE_CLOSE_MS,
      ...options,
    };
  }

  get waitingCount(): number {
    return this.#waiting.length + this.#ended.length;
  }

  record(span: SpanRecord): void {
    const { spansMax, batchSpans, flushMs, onDropped } = this.#options;
    if (this.#closed) {
      onDropped(1, 'closed');
      return;
    }
    if (this.waitingCount >= spansMax) {
      onDropped(1, 'queue_full');
      return;
    }
    this.#ended.push(span);
    if (this.#ended.length >= TRACE_ENCODE_SPANS) this.#encode();
    if (this.#sending) return; // its end looks again
    if (this.waitingCount >= batchSpans) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), flushMs).unref();
  }

  /** Sends what waits, for a bounded time; the rest is dropped. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#drain();
    return this.#closing;
  }

  async #drain(): Promise<void> {
    const { closeMs, onDropped } = this.#options;
    const over = Promise.withResolvers<'over'>();
    const timer = setTimeout(() => over.resolve('over'), closeMs);
    while (this.#sending || this.waitingCount > 0) {
      if (!this.#sending) this.#flush();
      if ((await Promise.race([this.#sending, over.promise])) === 'over') break;
    }
    clearTimeout(timer);
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const left = this.waitingCount;
    this.#waiting = [];
    this.#ended = [];
    if (left > 0) onDropped(left, 'closed');
  }

  #encode(): void {
    const { encode } = this.#options;
    const ended = this.#ended;
    this.#ended = [];
    for (const span of ended) this.#waiting.push(encode(span));
  }

  #flush(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const { batchSpans, flushMs, send, onDropped, onSent } = this.#options;
    this.#encode();
    const batch = this.#waiting.splice(0, batchSpans);
    if (batch.length === 0) return;
    this.#sending = send(batch)
      .then(
        () => onSent?.(batch.length),
        (cause: unknown) => onDropped(batch.length, 'refused', cause),
      )
      .finally(() => {
        this.#sending = null;
        if (this.#closed || this.#closing || this.waitingCount === 0) return;
        if (this.waitingCount >= batchSpans) this.#flush();
        else this.#timer ??= setTimeout(() => this.#flush(), flushMs).unref();
      });
  }
}
