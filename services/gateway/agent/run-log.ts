// The events of one run, numbered without gaps, and its readers: the stream that started it and those that attached. The
// newest events are kept, and those that a reader has not taken; a run waits for a reader that is behind, for a bounded time.
import type { RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { SLOW_CLIENT_MS } from '../limits.ts';
import { RUN_EVENTS_BYTES_MAX, RUN_EVENTS_MAX, RUN_LAG_BYTES_MAX, RUN_LAG_EVENTS_MAX } from './limits.ts';

export type RunEvent = NonNullable<RunResponse['event']>;

/** `endBytes`: bytes of all events up to and with this one. */
type Kept = { event: RunResponse; endBytes: number };

export type RunLogOptions = {
  eventsMax?: number;
  bytesMax?: number;
  lagEventsMax?: number;
  lagBytesMax?: number;
  slowReaderMs?: number;
};

const EVENT_BYTES = 64;

/** About what an event takes. */
function sizeOf(event: RunEvent): number {
  switch (event.$case) {
    case 'delta':
      return EVENT_BYTES + event.value.content.length + event.value.reasoning.length;
    case 'call':
    case 'approval':
      return EVENT_BYTES + event.value.argumentsJson.length;
    case 'callOutput':
      return EVENT_BYTES + event.value.data.length;
    case 'callEnded':
      return EVENT_BYTES + event.value.content.length;
    case 'ended':
      return EVENT_BYTES + event.value.answer.length;
    case 'plan':
      return event.value.steps.reduce((sum, step) => sum + EVENT_BYTES + step.argumentsJson.length, EVENT_BYTES);
    default:
      return EVENT_BYTES;
  }
}

export class RunReader {
  /** Number of the last event that was taken. */
  taken: number;
  takenBytes: number;
  readonly #log: RunLog;
  #error: QuernError | null = null;
  #wake: (() => void) | null = null;

  constructor(log: RunLog, taken: number, takenBytes: number) {
    this.#log = log;
    this.taken = taken;
    this.takenBytes = takenBytes;
  }

  /** The next event; waits for one. Null: the run has ended. Throws the signal's reason, RESOURCE_EXHAUSTED for a slow reader. */
  async next({ signal }: { signal: AbortSignal }): Promise<RunResponse | null> {
    while (true) {
      if (signal.aborted) throw toQuernError(signal.reason);
      if (this.#error) throw this.#error;
      const kept = this.#log.after(this.taken);
      if (kept) {
        this.taken += 1;
        this.takenBytes = kept.endBytes;
        this.#log.onTaken();
        return kept.event;
      }
      if (this.#log.closed) return null;
      await this.#changed(signal);
    }
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal.removeEventListener('abort', wake);
        this.#wake = null;
        resolve();
      };
      this.#wake = wake;
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  wake(): void {
    this.#wake?.();
  }

  fail(error: QuernError): void {
    this.#error ??= error;
    this.wake();
  }

  /** Nobody reads any more, for a reason. Idempotent. */
  close(reason: QuernError | null = null): void {
    this.#log.remove(this, reason);
  }
}

export class RunLog {
  /** No event comes any more. */
  closed = false;
  /** Told when the number of readers has changed. `reason`: why the one that left did. */
  onReaders: (count: number, reason: QuernError | null) => void = () => {};
  readonly #bounds: Required<RunLogOptions>;
  #kept: Kept[] = [];
  /** Events that are gone from the front of #kept. */
  #dropped = 0;
  #droppedBytes = 0;
  #bytes = 0;
  readonly #readers = new Set<RunReader>();
  readonly #waiting = new Set<() => void>();
  #slow: NodeJS.Timeout | null = null;

  constructor(options: RunLogOptions = {}) {
    this.#bounds = {
      eventsMax: RUN_EVENTS_MAX,
      bytesMax: RUN_EVENTS_BYTES_MAX,
      lagEventsMax: RUN_LAG_EVENTS_MAX,
      lagBytesMax: RUN_LAG_BYTES_MAX,
      slowReaderMs: SLOW_CLIENT_MS,
      ...options,
    };
  }

  /** Number of the last event; 0 before the first. */
  get last(): number {
    return this.#dropped + this.#kept.length;
  }

  get readers(): number {
    return this.#readers.size;
  }

  emit(path: string, event: RunEvent): void {
    if (this.closed) return;
    this.#bytes += sizeOf(event);
    this.#kept.push({ event: { sequence: BigInt(this.last + 1), path, event }, endBytes: this.#bytes });
    this.#trim();
    for (const reader of this.#readers) reader.wake();
  }

  /** Lets the oldest events go, but none that a reader has not taken: ready() and the removal of slow readers bound those. */
  #trim(): void {
    const { eventsMax, bytesMax } = this.#bounds;
    let allTook = this.last;
    for (const { taken } of this.#readers) allTook = Math.min(allTook, taken);
    const isOver = (): boolean =>
      this.#kept.length > eventsMax || (this.#kept.length > 1 && this.#bytes - this.#droppedBytes > bytesMax);
    while (this.#dropped < allTook && isOver()) {
      this.#droppedBytes = (this.#kept.shift() as Kept).endBytes;
      this.#dropped += 1;
    }
  }

  /** No more events: readers end when they have taken all. */
  close(): void {
    this.closed = true;
    for (const reader of this.#readers) reader.wake();
    this.#release();
  }

  /** Reads from behind `after`. Throws OUT_OF_RANGE when those events are gone, or were never there. */
  reader(after: number): RunReader {
    if (after < this.#dropped || after > this.last) {
      const message =
        `expected a sequence number ${this.#dropped}..${this.last}, got ${after}: ` +
        `${after < this.#dropped ? 'the events before are no longer kept' : 'there are no such events yet'}`;
      throw new QuernError('OUT_OF_RANGE', message, { reason: 'RUN_EVENTS_GONE' });
    }
    const takenBytes =
      after === this.#dropped ? this.#droppedBytes : (this.#kept[after - this.#dropped - 1]?.endBytes ?? 0);
    const reader = new RunReader(this, after, takenBytes);
    this.#readers.add(reader);
    this.onReaders(this.#readers.size, null);
    return reader;
  }

  /** The event behind `sequence`, for a reader. Throws OUT_OF_RANGE when it is gone. */
  after(sequence: number): Kept | undefined {
    if (sequence >= this.#dropped) return this.#kept[sequence - this.#dropped];
    const message = `the events behind ${sequence} are no longer kept; read faster`;
    throw new QuernError('OUT_OF_RANGE', message, { reason: 'RUN_EVENTS_GONE' });
  }

  /** Resolves when no reader is too far behind. Throws the signal's reason. */
  async ready({ signal }: { signal: AbortSignal }): Promise<void> {
    while (this.#lagging().length > 0) {
      if (signal.aborted) throw toQuernError(signal.reason);
      this.#slow ??= setTimeout(() => this.#dropSlow(), this.#bounds.slowReaderMs);
      await new Promise<void>((resolve) => {
        const go = (): void => {
          signal.removeEventListener('abort', go);
          this.#waiting.delete(go);
          resolve();
        };
        this.#waiting.add(go);
        signal.addEventListener('abort', go, { once: true });
      });
    }
  }

  /** A reader has taken an event. */
  onTaken(): void {
    this.#trim();
    if (this.#waiting.size > 0 && this.#lagging().length === 0) this.#release();
  }

  remove(reader: RunReader, reason: QuernError | null = null): void {
    if (!this.#readers.delete(reader)) return;
    this.onTaken();
    this.onReaders(this.#readers.size, reason);
  }

  #lagging(): RunReader[] {
    if (this.closed) return [];
    const { lagEventsMax, lagBytesMax } = this.#bounds;
    return [...this.#readers].filter(
      ({ taken, takenBytes }) => this.last - taken > lagEventsMax || this.#bytes - takenBytes > lagBytesMax,
    );
  }

  #dropSlow(): void {
    this.#slow = null;
    const { slowReaderMs } = this.#bounds;
    const message = `the client has fallen behind for ${slowReaderMs} ms; read faster, or attach again where you stopped`;
    for (const reader of this.#lagging()) {
      const error = new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'SLOW_READER' });
      reader.fail(error);
      this.remove(reader, error);
    }
  }

  #release(): void {
    if (this.#slow) clearTimeout(this.#slow);
    this.#slow = null;
    for (const go of [...this.#waiting]) go();
  }
}
