// The one writer of the ledger: takes messages of the stream in order and, for each batch, stores what is new, shows it, and
// only then lets the stream forget. A crash between any two of these makes the batch come again, which changes nothing.
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { TraceContext } from '#kit/trace.ts';
import { type Alarm, ChainFollower } from './ingest.ts';
import type { Ledger, LedgerEntry } from './ledger.ts';
import { CATCH_UP_RECORDS } from './limits.ts';
import type { Projection, StreamPosition } from './projection.ts';

/** A message of the stream: sequence numbers grow by one. A stream that has lost its end gives those numbers again, to other messages. */
export type StreamMessage = { streamSeq: number; payload: Buffer; sender?: TraceContext | null };

export type BatchResult = {
  records: number;
  /** Records that their producer has sent again; not those of a message that the stream gave out twice. */
  duplicates: number;
  alarms: Alarm[];
};

export class LedgerWriter {
  readonly #ledger: Ledger;
  readonly #projection: Projection;
  readonly #log: Log;
  readonly #follower: ChainFollower;
  readonly #lacks: boolean;
  #position: StreamPosition | null;
  /** A batch was taken and not stored: what came in it would pass for known. */
  #hasFailed = false;

  private constructor(ledger: Ledger, projection: Projection, log: Log) {
    this.#ledger = ledger;
    this.#projection = projection;
    this.#log = log;
    this.#follower = new ChainFollower(projection);
    this.#position = projection.streamPosition;
    this.#lacks = ledger.size === 0 || ledger.asides.some(({ told }) => !told);
  }

  /** Brings the view up to the ledger first. */
  static async open(ledger: Ledger, projection: Projection, log: Log): Promise<LedgerWriter> {
    await catchUp(ledger, projection);
    return new LedgerWriter(ledger, projection, log);
  }

  /** Records that the stream was told to be safe may not be here: nothing is, or the end of the ledger had been changed. */
  get lacksRecords(): boolean {
    return this.#lacks;
  }

  /** The last message of this stream that is stored; null when not known. */
  lastSeq(createdMs: number): number | null {
    return this.#position?.createdMs === createdMs ? this.#position.seq : null;
  }

  /**
   * Stores a batch of one stream. When it returns, all of it is on disk and in the view. After an error it takes nothing more:
   * what is stored is known again when ledger and view are opened.
   */
  async write(createdMs: number, messages: readonly StreamMessage[]): Promise<BatchResult> {
    if (this.#hasFailed) {
      const message = 'the audit ledger could not store a batch; see the log, then start the service again';
      throw new QuernError('UNAVAILABLE', message, { reason: 'AUDIT_LEDGER_FAILED' });
    }
    try {
      return await this.#store(createdMs, messages);
    } catch (error) {
      this.#hasFailed = true;
      throw error;
    }
  }

  async #store(createdMs: number, messages: readonly StreamMessage[]): Promise<BatchResult> {
    let last = this.lastSeq(createdMs) ?? 0;
    const fresh: Buffer[] = [];
    const result: BatchResult = { records: 0, duplicates: 0, alarms: [] };
    for (const { streamSeq, payload } of messages) {
      const isAgain = streamSeq <= last;
      const taken = this.#follower.take(payload, { isAgain });
      fresh.push(...taken.fresh);
      if (!isAgain) result.duplicates += taken.duplicates;
      result.alarms.push(...taken.alarms);
      last = Math.max(last, streamSeq);
    }
    const first = fresh.length > 0 ? await this.#ledger.append(fresh) : this.#ledger.size;
    const position = { createdMs, seq: last };
    this.#projection.apply(
      fresh.map((bytes, i) => ({ index: first + i, bytes })),
      position,
    );
    this.#position = position;
    this.#follower.committed();
    result.records = fresh.length;
    for (const alarm of result.alarms) this.#log.error({ alarm }, 'the audit log is not whole');
    return result;
  }
}

async function catchUp(ledger: Ledger, projection: Projection): Promise<void> {
  let portion: LedgerEntry[] = [];
  if (projection.nextIndex < ledger.firstIndex) projection.startAt(ledger.firstIndex, ledger.agedHeads);
  const from = projection.nextIndex;
  if (from >= ledger.size) return;
  for await (const entry of ledger.read(from)) {
    portion.push(entry);
    if (portion.length < CATCH_UP_RECORDS) continue;
    projection.apply(portion);
    portion = [];
  }
  if (portion.length > 0) projection.apply(portion);
}
