// Reads the stream AUDIT in order, without a gap, into the ledger's writer. Messages are acknowledged when they are stored.
import { setTimeout as sleep } from 'node:timers/promises';
import { AckPolicy, type Consumer, DeliverPolicy, type JsMsg, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { startProcessSpan } from '#kit/audit/message-spans.ts';
import type { NatsLink } from '#kit/audit/nats-link.ts';
import { AUDIT_STREAM, type AuditStreamOptions, ensureAuditStream, senderOf } from '#kit/audit/stream.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { ATTR_AUDIT_RECORDS } from '#kit/semconv.ts';
import { noSpans, type SpanSink } from '#kit/trace.ts';
import {
  CONSUMER_ACK_WAIT_MS,
  CONSUMER_ANSWER_MS,
  CONSUMER_BATCH_MESSAGES,
  CONSUMER_RETRY_MS,
  CONSUMER_WAIT_MS,
} from './limits.ts';
import type { BatchResult, LedgerWriter, StreamMessage } from './writer.ts';

const DURABLE = 'ledger';
const NO_MESSAGE = 10037;

export type ConsumerOptions = {
  link: NatsLink;
  stream: AuditStreamOptions;
  writer: LedgerWriter;
  log: Log;
  /** Takes one span per batch. Default: nowhere. */
  spans?: SpanSink;
  onBatch?: (result: BatchResult) => void;
};

export type ConsumerStats = { state: 'reading' | 'waiting' | 'failed'; reason: string; pendingMessages: number };

export class AuditConsumer {
  readonly #options: ConsumerOptions;
  readonly #stop = new AbortController();
  #stats: ConsumerStats = { state: 'waiting', reason: 'not connected yet', pendingMessages: 0 };
  #loop: Promise<void> | null = null;
  /** Up to here the stream has nothing for us: what counts while the view does not know a position in it. */
  #floor = 0;

  constructor(options: ConsumerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** failed: the ledger takes nothing more; the process must be restarted. */
  get stats(): ConsumerStats {
    return { ...this.#stats };
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#read(signal);
      } catch (thrown) {
        if (this.#hasFailed()) return; // nothing may be acknowledged any more
        if (!signal.aborted) this.#waits(thrown);
        await sleep(CONSUMER_RETRY_MS, undefined, { signal }).catch(() => {});
      }
    }
  }

  #hasFailed(): boolean {
    return this.#stats.state === 'failed';
  }

  #waits(thrown: unknown): void {
    const error = toQuernError(thrown);
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    if (reason !== this.#stats.reason) this.#options.log.warn({ err: error }, 'the audit stream cannot be read');
    this.#stats = { ...this.#stats, state: 'waiting', reason };
  }

  /** Reads until something fails. The library's endless iteration ends without a word when a stream is deleted: this does not. */
  async #read(signal: AbortSignal): Promise<void> {
    const { link, stream } = this.#options;
    const connection = link.get();
    await ensureAuditStream(connection, stream);
    const admin = await jetstreamManager(connection);
    const created = (await admin.streams.info(AUDIT_STREAM)).created;
    await admin.consumers.add(AUDIT_STREAM, {
      durable_name: DURABLE,
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      ack_wait: CONSUMER_ACK_WAIT_MS * 1e6,
      max_ack_pending: CONSUMER_BATCH_MESSAGES,
    });
    const consumer = await jetstream(connection).consumers.get(AUDIT_STREAM, DURABLE);
    this.#floor = await this.#acknowledged(consumer);
    this.#stats = { ...this.#stats, state: 'reading', reason: '' };
    await this.#readMissing(Date.parse(created));
    while (!signal.aborted) await this.#batch(consumer, Date.parse(created));
  }

  /**
   * Only what is stored is acknowledged, so a view that was made anew takes the stream up behind that: messages given out
   * before and not acknowledged would come behind newer ones. A ledger that is empty, or whose end was changed, lacks what
   * was acknowledged.
   */
  async #acknowledged(consumer: Consumer): Promise<number> {
    const { ack_floor: floor } = await this.#orStopped(consumer.info());
    return this.#options.writer.lacksRecords ? 0 : floor.stream_seq;
  }

  #lastSeq(createdMs: number): number {
    return this.#options.writer.lastSeq(createdMs) ?? this.#floor;
  }

  async #batch(consumer: Consumer, createdMs: number): Promise<void> {
    const messages = await this.#orStopped(this.#fetch(consumer));
    if (messages.length === 0) {
      const { num_ack_pending: givenOut } = await this.#orStopped(consumer.info()); // throws when it has gone
      if (givenOut > 0) await this.#readMissing(createdMs);
      return;
    }
    await this.#store(createdMs, await this.#inOrder(createdMs, messages));
    for (const message of messages) message.ack();
  }

  async #fetch(consumer: Consumer): Promise<JsMsg[]> {
    const messages: JsMsg[] = [];
    const fetched = await consumer.fetch({ max_messages: CONSUMER_BATCH_MESSAGES, expires: CONSUMER_WAIT_MS });
    for await (const message of fetched) {
      messages.push(message);
      this.#stats.pendingMessages = message.info.pending;
      if (message.info.pending === 0) break; // all there is: do not wait for more
    }
    return messages;
  }

  /**
   * Stores what the consumer gave out and nobody stored, as when a connection broke: it would come again only after the
   * acknowledgement's time limit, as something that is known by then.
   */
  async #readMissing(createdMs: number): Promise<void> {
    const admin = await this.#orStopped(jetstreamManager(this.#options.link.get()));
    const { state } = await this.#orStopped(admin.streams.info(AUDIT_STREAM));
    let last = Math.max(this.#lastSeq(createdMs), state.first_seq - 1);
    while (last < state.last_seq && !this.#stop.signal.aborted) {
      const messages: StreamMessage[] = [];
      const end = Math.min(state.last_seq, last + CONSUMER_BATCH_MESSAGES);
      for (let seq = last + 1; seq <= end; seq += 1) {
        const message = await this.#orStopped(this.#get(seq));
        if (message) messages.push(message);
      }
      if (messages.length > 0) await this.#store(createdMs, messages);
      last = end;
    }
    this.#floor = last; // what is missing below has gone from the stream
  }

  /** The library leaves a request unanswered when its connection goes at the wrong moment: neither close() nor we wait for it. */
  #orStopped<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#stop;
    return new Promise((resolve, reject) => {
      const fail = (message: string) => (): void => reject(new QuernError('UNAVAILABLE', message));
      const timer = setTimeout(fail('NATS does not answer'), CONSUMER_WAIT_MS + CONSUMER_ANSWER_MS);
      const onAbort = fail('the consumer is closing');
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      void work.then(resolve, reject).finally(() => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      });
    });
  }

  async #store(createdMs: number, messages: readonly StreamMessage[]): Promise<void> {
    const { writer, log, onBatch, spans = noSpans } = this.#options;
    const senders = messages.map(({ sender }) => sender);
    const span = startProcessSpan(spans, senders);
    try {
      const result = await writer.write(createdMs, messages);
      span.set({ [ATTR_AUDIT_RECORDS]: result.records });
      span.end();
      onBatch?.(result);
    } catch (error) {
      span.end({ error: toQuernError(error).code });
      log.error({ err: error }, 'the audit ledger takes no more records');
      this.#stats = { ...this.#stats, state: 'failed', reason: (error as Error).message };
      throw error;
    }
  }

  /**
   * By sequence, and with what is missing before: a message that was given out and not acknowledged comes again later than
   * those behind it. What the stream does not have any more, the chains of the producers tell.
   */
  async #inOrder(createdMs: number, messages: readonly JsMsg[]): Promise<StreamMessage[]> {
    const sorted: StreamMessage[] = messages.map(({ seq, data, headers }) => ({
      streamSeq: seq,
      payload: Buffer.from(data),
      sender: senderOf(headers),
    }));
    sorted.sort((a, b) => a.streamSeq - b.streamSeq);
    const whole: StreamMessage[] = [];
    let last = this.#lastSeq(createdMs);
    for (const message of sorted) {
      for (let seq = last + 1; seq < message.streamSeq; seq += 1) {
        const missing = await this.#get(seq);
        if (missing) whole.push(missing);
      }
      whole.push(message);
      last = Math.max(last, message.streamSeq);
    }
    return whole;
  }

  async #get(streamSeq: number): Promise<StreamMessage | null> {
    const admin = await jetstreamManager(this.#options.link.get());
    try {
      const message = await admin.direct.getMessage(AUDIT_STREAM, { seq: streamSeq });
      return message && { streamSeq, payload: Buffer.from(message.data), sender: senderOf(message.header) };
    } catch (error) {
      if ((error as { code?: unknown }).code === NO_MESSAGE) return null;
      throw error;
    }
  }
}
