// The events of one call, numbered without gaps: the last ones stay in a bounded ring, from which streams read at their own pace.
// The oldest stream that reads sets the pace of the tool: when it lags, the tool's pipes pause.
import type { ExecuteResponse } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { RING_BYTES_MAX, RING_EVENTS_MAX, RING_UNREAD_BYTES } from './limits.ts';

export type CallEvent = NonNullable<ExecuteResponse['event']>;

/** Where a stream's messages go; kit/rpc's Out is one. */
export type EventOut = {
  write(event: ExecuteResponse): boolean;
  drained(signal?: AbortSignal): Promise<void>;
};

type Kept = { event: ExecuteResponse; bytes: number /** Of all events up to it. */; end: number };
type Reader = { next: bigint; readBytes: number };

/** Of the objects around an event's bytes, about. */
const EVENT_OVERHEAD_BYTES = 256;

function sizeOf(event: CallEvent): number {
  if (event.$case === 'output') return EVENT_OVERHEAD_BYTES + event.value.data.length;
  if (event.$case === 'artifact') return EVENT_OVERHEAD_BYTES + event.value.data.length + event.value.path.length;
  if (event.$case === 'result')
    return EVENT_OVERHEAD_BYTES + 2 * (event.value.content.length + event.value.structuredJson.length);
  return event.$case === 'approvalRequired'
    ? EVENT_OVERHEAD_BYTES + event.value.argumentsJson.length
    : EVENT_OVERHEAD_BYTES;
}

function gone(after: bigint, first: bigint): QuernError {
  const message = `after_sequence: events after ${after} are not kept any more, the first is ${first}; attach from ${first - 1n} or later`;
  return new QuernError('OUT_OF_RANGE', message, {
    reason: 'TOOL_EVENTS_GONE',
    metadata: { first_sequence: String(first) },
  });
}

export class CallEvents {
  #ring: Kept[] = [];
  #ringBytes = 0;
  #lastSequence = 0n;
  #writtenBytes = 0;
  #newestBytes = 0;
  #ended = false;
  readonly #readers = new Set<Reader>();
  readonly #wake = new Set<() => void>();
  readonly #onDrained = new Set<() => void>();

  /** What the ring holds. */
  get bytes(): number {
    return this.#ringBytes;
  }

  /** Bytes that the stream which sets the pace has not read; 0 without one. */
  get unread(): number {
    const [oldest] = this.#readers;
    return this.#ended || oldest === undefined ? 0 : this.#writtenBytes - oldest.readBytes;
  }

  /** Streams that read now. */
  get readers(): number {
    return this.#readers.size;
  }

  /** Nothing comes after a Result. */
  append(event: CallEvent): void {
    if (this.#ended) return;
    this.#lastSequence += 1n;
    const bytes = sizeOf(event);
    this.#writtenBytes += bytes;
    this.#ringBytes += bytes;
    this.#ring.push({ event: { sequence: this.#lastSequence, event }, bytes, end: this.#writtenBytes });
    if (event.$case === 'result') this.#ended = true;
    this.#newestBytes = bytes;
    this.#trim();
    for (const wake of [...this.#wake]) wake();
    if (this.#ended) this.#letGo();
  }

  /** Nothing comes any more, not even a Result: the call was refused. */
  end(): void {
    this.#ended = true;
    for (const wake of [...this.#wake]) wake();
    this.#letGo();
  }

  /** `data`: at most OUTPUT_EVENT_BYTES_MAX, all of its memory, to which nobody writes again. Answers whether more may come now. */
  appendOutput(stream: 1 | 2, data: Buffer): boolean {
    this.append({ $case: 'output', value: { stream, data } });
    return !this.#full;
  }

  /** Resolves when more output may come. Nobody waits for a stream that is gone. */
  drained(): Promise<void> {
    if (!this.#full) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onDrained.add(resolve);
    });
  }

  /**
   * Hands on every event after `after`, as they come, until the Result. Throws OUT_OF_RANGE when one of them is gone, what the
   * stream says when it breaks, and the signal's reason.
   */
  async follow(after: bigint, out: EventOut, signal: AbortSignal): Promise<void> {
    const reader: Reader = { next: after + 1n, readBytes: this.#endOf(after) };
    this.#readers.add(reader);
    try {
      while (!signal.aborted) {
        const kept = this.#at(reader.next);
        if (kept) {
          reader.next += 1n;
          const writable = out.write(kept.event);
          reader.readBytes = kept.end;
          if (kept.event.event?.$case === 'result') return;
          if (!writable) await out.drained(signal);
          this.#trim();
          this.#letGo();
        } else if (this.#ended) return;
        else await this.#more(signal);
      }
      throw signal.reason;
    } finally {
      this.#readers.delete(reader);
      this.#trim();
      this.#letGo();
    }
  }

  /** Lets the oldest events go, but none that is unread: one large event, the Result above all, must not take them from a reader. */
  #trim(): void {
    const unread = this.#firstUnread();
    while (this.#ring.length > 1 && (this.#ringBytes > RING_BYTES_MAX || this.#ring.length > RING_EVENTS_MAX)) {
      if (this.#ring[0]!.event.sequence >= unread) return;
      this.#ringBytes -= this.#ring.shift()!.bytes;
    }
  }

  /** The pace bounds what the oldest stream leaves unread. The others count while they are behind by a ring, the newest event aside. */
  #firstUnread(): bigint {
    const [oldest] = this.#readers;
    let first = this.#lastSequence + 1n;
    for (const reader of this.#readers) {
      const behind = this.#writtenBytes - this.#newestBytes - reader.readBytes;
      if (reader.next < first && (reader === oldest || behind <= RING_BYTES_MAX)) first = reader.next;
    }
    return first;
  }

  /** The event with this number; null: not there yet. */
  #at(sequence: bigint): Kept | null {
    const first = this.#ring[0]?.event.sequence ?? 1n;
    if (sequence < first) throw gone(sequence - 1n, first);
    return this.#ring[Number(sequence - first)] ?? null;
  }

  #endOf(sequence: bigint): number {
    const first = this.#ring[0]?.event.sequence ?? 1n;
    return sequence < first ? 0 : (this.#ring[Number(sequence - first)]?.end ?? this.#writtenBytes);
  }

  #more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#wake.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#wake.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  get #full(): boolean {
    return this.unread > RING_UNREAD_BYTES;
  }

  #letGo(): void {
    if (this.#full) return;
    for (const resolve of this.#onDrained) resolve();
    this.#onDrained.clear();
  }
}
