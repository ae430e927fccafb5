// From the outbox to the stream: one message in flight, oldest frames first, until the stream has it. The stream waits for its disk
// with each message, so frames that wait meanwhile go together. What the stream holds of this producer is asked of the stream
// itself, never remembered here: so a lost tail or a new stream is sent again by itself.
import { setTimeout as sleep } from 'node:timers/promises';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { noSpans, type SpanSink, type TraceContext } from '#kit/trace.ts';
import { joinPayloads } from './frame.ts';
import { AUDIT_FRAME_BYTES_MAX, PUBLISH_RETRY_MAX_MS, PUBLISH_RETRY_MIN_MS } from './limits.ts';
import { startSendSpan } from './message-spans.ts';
import type { Outbox, OutboxFrame, OutboxPosition } from './outbox.ts';
import { sha256Hex } from './record.ts';

/** One message: frames as they travel. `id`: by which the stream drops what it has just seen. `trace`: its sender's span. */
export type StreamMessage = { id: string; bytes: Buffer; sha256: string; trace?: TraceContext };

/**
 * wrong_last: the subject's last sequence is not the expected one; nothing was stored.
 * full: the stream is at its limits and drops nothing. failed: not known whether it was stored.
 */
export type PublishVerdict =
  | { ok: true; streamSeq: number; duplicate: boolean }
  | { ok: false; reason: 'wrong_last' | 'full' | 'failed'; message: string };

/** The subject of this producer on the stream. */
export type ProducerStream = {
  publish(message: StreamMessage, options: { expectedSeq: number; signal: AbortSignal }): Promise<PublishVerdict>;
  /** The newest message there, or null. Throws when the stream does not answer. */
  last(options: { signal: AbortSignal }): Promise<{ id: string; sha256: string; streamSeq: number } | null>;
};

/** sending: on its way or all sent. waiting: the stream does not take frames now. stopped: another writer, or closed. */
export type PublisherState = 'sending' | 'waiting' | 'stopped';

export type PublisherOptions = {
  outbox: Outbox;
  stream: ProducerStream;
  log: Log;
  /** Takes one span per publish. Default: nowhere. */
  spans?: SpanSink;
  /** For tests. */
  retryMinMs?: number;
  retryMaxMs?: number;
};

export type PublisherStats = {
  state: PublisherState;
  /** Why it waits or stopped; "" while it sends. */
  reason: string;
  /** Last record that the stream has. */
  publishedSeq: number;
  unsentRecords: number;
  /** Age of the oldest record that the stream does not have, 0 when it has all. */
  oldestUnsentMs: number;
};

/** A message is named for its last frame: behind that the next one begins. */
export function messageId(producer: string, { epoch, firstSeq }: Pick<OutboxFrame, 'epoch' | 'firstSeq'>): string {
  return `${producer}/${epoch}/${firstSeq}`;
}

/** Invariant: a frame is sent only after the stream has every frame before it. */
export class Publisher {
  readonly #outbox: Outbox;
  readonly #stream: ProducerStream;
  readonly #log: Log;
  readonly #spans: SpanSink;
  readonly #retryMinMs: number;
  readonly #retryMaxMs: number;
  readonly #stop = new AbortController();
  #position: OutboxPosition | null = null;
  #expectedSeq = 0;
  #publishedSeq = 0;
  #oldestUnsentTs: string | null = null;
  #state: PublisherState = 'sending';
  #reason = '';
  #loop: Promise<void> | null = null;

  constructor(options: PublisherOptions) {
    const { outbox, stream, log, spans = noSpans } = options;
    const { retryMinMs = PUBLISH_RETRY_MIN_MS, retryMaxMs = PUBLISH_RETRY_MAX_MS } = options;
    this.#spans = spans;
    this.#outbox = outbox;
    this.#stream = stream;
    this.#log = log;
    this.#retryMinMs = retryMinMs;
    this.#retryMaxMs = retryMaxMs;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  get stats(): PublisherStats {
    const oldest = this.#oldestUnsentTs;
    return {
      state: this.#state,
      reason: this.#reason,
      publishedSeq: this.#publishedSeq,
      unsentRecords: this.#outbox.durableSeq - Math.max(this.#publishedSeq, this.#outbox.firstSeq - 1),
      oldestUnsentMs: oldest === null ? 0 : Math.max(0, Date.now() - Date.parse(oldest)),
    };
  }

  /** Resolves when the stream has all that the outbox had at the call, or when the signal aborts. */
  async flushed(signal: AbortSignal): Promise<boolean> {
    const wanted = this.#outbox.durableSeq;
    while (this.#publishedSeq < wanted && !signal.aborted && this.#state !== 'stopped') await sleep(5);
    return this.#publishedSeq >= wanted;
  }

  async close(): Promise<void> {
    this.#stop.abort(new QuernError('CANCELLED', 'the publisher is closing'));
    await this.#loop;
    this.#state = 'stopped';
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let delayMs = this.#retryMinMs;
    while (!signal.aborted && this.#state !== 'stopped') {
      try {
        if (await this.#step(signal)) delayMs = this.#retryMinMs;
      } catch (thrown) {
        if (signal.aborted) return;
        await this.#wait(thrown);
        if (this.#isStopped()) return;
        await sleep(delayMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {});
        delayMs = Math.min(delayMs * 2, this.#retryMaxMs);
      }
    }
  }

  #isStopped(): boolean {
    return this.#state === 'stopped';
  }

  async #wait(thrown: unknown): Promise<void> {
    const error = toQuernError(thrown);
    const state = error.code === 'FAILED_PRECONDITION' || error.code === 'DATA_LOSS' ? 'stopped' : 'waiting';
    const reason = error.code === 'INTERNAL' ? String(thrown) : error.message;
    if (state === 'stopped') this.#log.error({ err: error }, 'audit publisher stopped');
    else if (this.#state !== 'waiting') this.#log.warn({ err: error }, 'audit frames wait in the outbox');
    this.#state = state;
    this.#reason = reason;
    // A damaged outbox is the next step's own error.
    const unsent = await this.#outbox
      .positionAfter(this.#publishedSeq)
      .then((position) => this.#outbox.frameAt(position))
      .catch(() => null);
    this.#oldestUnsentTs = unsent?.firstTs ?? null;
  }

  /** `first` and the frames behind it that fit one message with it. A damaged one is the next step's own error. */
  async #together(first: OutboxFrame): Promise<OutboxFrame[]> {
    const frames = [first];
    let bytes = first.bytes.length;
    for (let last = first; ; ) {
      const next = await this.#outbox.frameAt(last.next).catch(() => null);
      if (!next) return frames;
      bytes += 1 + next.bytes.length;
      if (bytes > AUDIT_FRAME_BYTES_MAX) return frames;
      frames.push(next);
      last = next;
    }
  }

  /** Sends one message, or waits for a frame. Throws when the stream does not take it. */
  async #step(signal: AbortSignal): Promise<boolean> {
    this.#position ??= await this.#synchronise(signal);
    const committed = this.#outbox.committed(signal); // before the look, so that no commit is missed
    const frame = await this.#outbox.frameAt(this.#position);
    if (!frame) {
      this.#sends();
      await committed;
      return true;
    }
    const frames = await this.#together(frame);
    const last = frames.at(-1) as OutboxFrame;
    const id = messageId(this.#outbox.producer, last);
    const payload = joinPayloads(frames.map(({ bytes }) => bytes));
    const records = last.lastSeq - frame.firstSeq + 1;
    const span = startSendSpan(this.#spans, { id, payload, records });
    const sent = { id, bytes: payload, sha256: sha256Hex(payload), trace: span.context };
    const verdict = await this.#stream.publish(sent, { expectedSeq: this.#expectedSeq, signal });
    span.end({ error: verdict.ok ? null : verdict.reason });
    if (!verdict.ok) {
      this.#position = null; // whether it was stored after all, and what is there now, the stream says
      throw new QuernError('UNAVAILABLE', verdict.message, { reason: `PUBLISH_${verdict.reason.toUpperCase()}` });
    }
    this.#expectedSeq = verdict.streamSeq;
    this.#publishedSeq = last.lastSeq;
    this.#position = last.next;
    this.#sends();
    return true;
  }

  #sends(): void {
    if (this.#state === 'waiting') this.#log.info({ seq: this.#publishedSeq }, 'audit frames flow again');
    this.#state = 'sending';
    this.#reason = '';
    this.#oldestUnsentTs = null;
  }

  /** Where to go on, by what the stream has. Throws FAILED_PRECONDITION when it has what this outbox never wrote. */
  async #synchronise(signal: AbortSignal): Promise<OutboxPosition> {
    const last = await this.#stream.last({ signal });
    this.#expectedSeq = last?.streamSeq ?? 0;
    if (last === null) {
      const first = await this.#outbox.frameAt(this.#outbox.firstPosition);
      this.#publishedSeq = first ? first.firstSeq - 1 : this.#outbox.durableSeq;
      return this.#outbox.firstPosition;
    }
    const { producer, durableSeq } = this.#outbox;
    const [, , seq = ''] = last.id.split('/');
    const firstSeq = Number(seq);
    if (!last.id.startsWith(`${producer}/`) || !Number.isSafeInteger(firstSeq) || firstSeq > durableSeq) {
      const message =
        `audit: the stream's last frame of ${producer} is "${last.id}", which this outbox (up to record ${durableSeq}) did ` +
        'not write; two writers share a producer, or the folder is an old copy: stop one, or start with a new folder';
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'AUDIT_SECOND_WRITER' });
    }
    const position = await this.#outbox.positionAfter(firstSeq);
    const next = await this.#outbox.frameAt(position);
    this.#publishedSeq = next ? next.firstSeq - 1 : durableSeq;
    return position;
  }
}
