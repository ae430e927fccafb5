// What the requests of one call have to say, sent as fast as the reader takes it: at once when it keeps up, merged per
// sequence when it does not. Merging loses nothing and holds at most the requests' own max_tokens.
import type { Finished, StepBatch, TokenEvent } from '#gen/quern/engine/v1/engine.ts';
import { UNREAD_MAX_MS } from './limits.ts';

/** Where batches go; the answer stream of one call. */
export type BatchSink = {
  readonly writable: boolean;
  /** False: not flushed yet. */
  write(batch: StepBatch): boolean;
  drained(): Promise<void>;
};

/** One request's part of what waits. */
export type Outbound = {
  readonly handle: number;
  /** By choice; created by the first token that waits. */
  pending: TokenEvent[] | null;
  finished: Finished | null;
  /** Since when something of it waits; 0 = nothing does. */
  waitingSinceMs: number;
};

export class StepSender {
  readonly #sink: BatchSink;
  readonly #now_ms: () => number;
  readonly #onUnread: (outbound: Outbound) => void;
  #touched = new Set<Outbound>();
  #running = 0;
  #waiting = 0;
  #waitsForDrain = false;
  #aborted = false;
  #closed = false;
  #onEmpty: (() => void) | null = null;

  /** onUnread: the request's news has waited for UNREAD_MAX_MS; called at each flush from then on. */
  constructor(options: { sink: BatchSink; now_ms: () => number; onUnread: (outbound: Outbound) => void }) {
    this.#sink = options.sink;
    this.#now_ms = options.now_ms;
    this.#onUnread = options.onUnread;
  }

  /** The event that waits for this choice, to be added to; touches the request. */
  eventFor(outbound: Outbound, choice: number): TokenEvent {
    outbound.pending ??= [];
    let event = outbound.pending.find((candidate) => candidate.choice === choice);
    if (!event) {
      event = { handle: outbound.handle, choice, tokenIds: [], logprobs: [], promptLogprobs: [] };
      outbound.pending.push(event);
    }
    this.#touched.add(outbound);
    return event;
  }

  finish(outbound: Outbound, finished: Finished): void {
    outbound.finished = finished;
    this.#touched.add(outbound);
  }

  /** Once per engine step: sends what the step brought, or keeps it when the reader lags. */
  flush(running: number, waiting: number): void {
    this.#running = running;
    this.#waiting = waiting;
    this.#send();
  }

  /** Requests with news that waits to be written. */
  get waitingCount(): number {
    return this.#touched.size;
  }

  /** True while something waits to be written. */
  get busy(): boolean {
    return this.#touched.size > 0 && !this.#closed;
  }

  /** Resolves when everything was written, or after timeoutMs. */
  async emptied(timeoutMs: number): Promise<void> {
    if (this.#touched.size === 0 || this.#closed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, timeoutMs);
    this.#onEmpty = resolve;
    await promise;
    this.#onEmpty = null;
    clearTimeout(timer);
  }

  /** The reader is gone: nothing is sent or kept any more. */
  close(): void {
    this.#closed = true;
    this.#touched.clear();
    this.#onEmpty?.();
  }

  #send(): void {
    if (this.#closed || this.#touched.size === 0) return;
    if (!this.#sink.writable && !this.#aborted) {
      this.#keep();
      return;
    }
    const tokens: TokenEvent[] = [];
    const finished: Finished[] = [];
    for (const outbound of this.#touched) {
      if (outbound.pending) tokens.push(...outbound.pending);
      if (outbound.finished) finished.push(outbound.finished);
      outbound.pending = null;
      outbound.finished = null;
      outbound.waitingSinceMs = 0;
    }
    this.#touched.clear();
    this.#sink.write({ tokens, finished, running: this.#running, waiting: this.#waiting });
    this.#onEmpty?.();
  }

  #keep(): void {
    const now = this.#now_ms();
    for (const outbound of this.#touched) {
      if (outbound.waitingSinceMs === 0) outbound.waitingSinceMs = now;
      else if (now - outbound.waitingSinceMs >= UNREAD_MAX_MS && !outbound.finished) this.#onUnread(outbound);
    }
    if (this.#waitsForDrain) return;
    this.#waitsForDrain = true;
    this.#sink.drained().then(
      () => {
        this.#waitsForDrain = false;
        this.#send();
      },
      () => {
        // The call was aborted. If it was the server's own drain, the reader still listens: its ends go out without
        // waiting. If the reader is gone, write() does nothing.
        this.#waitsForDrain = false;
        this.#aborted = true;
        this.#send();
      },
    );
  }
}
