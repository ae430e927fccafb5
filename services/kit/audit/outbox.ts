// The audit outbox of one service: what append() resolved is on this disk, in order, chained, until a signed checkpoint
// covers it. Data: segments of frames; the head (next seq, hash of the last record); records waiting for the disk.
// One fdatasync is in flight at a time and is one frame; appends meanwhile join the next frame (group commit).
import { randomBytes } from 'node:crypto';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { encodeFrame, FRAME_HEADER_BYTES, payloadAt, recordsOf } from './frame.ts';
import {
  AUDIT_FRAME_BYTES_MAX,
  AUDIT_FRAME_RECORDS_MAX,
  AUDIT_OUTBOX_HARD_BYTES,
  AUDIT_PENDING_RECORDS_MAX,
  AUDIT_SEGMENT_BYTES_MAX,
} from './limits.ts';
import { lockOutbox } from './outbox-lock.ts';
import { type OutboxHead, recoverOutbox, type Segment, segmentName, writeState } from './outbox-recovery.ts';
import { AUDIT_RECORD_VERSION, type AuditEvent, placeOf, recordBytes, sha256Hex } from './record.ts';
import { openSegmentFiles, type SegmentFile, type SegmentFiles } from './segment-files.ts';

export type OutboxOptions = {
  /** Its own folder, kept over restarts: a new folder is a new producer. */
  dir: string;
  /** "gateway"; with random digits it names the producer. */
  service: string;
  segmentBytesMax?: number;
  hardBytes?: number;
  /** For tests: files that fail. */
  files?: SegmentFiles;
};

/** open: takes records. full: refused for want of room, the next append tries again. failed: this disk cannot be trusted. */
export type OutboxStatus = 'open' | 'full' | 'failed' | 'closed';

/** Where a reader stands: a byte of a segment. */
export type OutboxPosition = { segment: number; offset: number };
export type OutboxFrame = {
  /** The payload: records joined by newlines. */
  bytes: Buffer;
  /** Of its first record. */
  epoch: number;
  firstSeq: number;
  firstTs: string;
  lastSeq: number;
  next: OutboxPosition;
};
export type Receipt = { id: string; seq: number };

type Waiting = { bytes: Buffer; seq: number; sha256: string; resolve(): void; reject(error: QuernError): void };

const OUT_OF_ROOM: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

function unavailable(reason: string, message: string, cause?: unknown): QuernError {
  return new QuernError('UNAVAILABLE', `audit: ${message}`, { reason }, { cause });
}

/** Invariant: records on disk have seq 1, 2, 3 … without a gap, each naming the hash of the one before it. */
export class Outbox {
  readonly producer: string;
  readonly epoch: number;
  readonly #files: SegmentFiles;
  readonly #unlock: () => Promise<void>;
  readonly #segmentBytesMax: number;
  readonly #hardBytes: number;
  readonly #segments: Segment[];
  /** The last record given out by append(). */
  #head: { seq: number; sha256: string };
  /** The last record on disk. */
  #durable: { seq: number; sha256: string };
  #active: SegmentFile | null = null;
  #status: OutboxStatus = 'open';
  #waiting: Waiting[] = [];
  #flushing: Promise<void> | null = null;
  #readers = new Set<() => void>();

  private constructor(
    head: OutboxHead,
    segments: Segment[],
    options: OutboxOptions,
    files: SegmentFiles,
    unlock: () => Promise<void>,
  ) {
    this.producer = head.producer;
    this.epoch = head.epoch;
    this.#head = { seq: head.seq, sha256: head.sha256 };
    this.#durable = { ...this.#head };
    this.#segments = segments;
    this.#files = files;
    this.#unlock = unlock;
    this.#segmentBytesMax = options.segmentBytesMax ?? AUDIT_SEGMENT_BYTES_MAX;
    this.#hardBytes = options.hardBytes ?? AUDIT_OUTBOX_HARD_BYTES;
  }

  /**
   * Opens a folder's outbox, or makes a new one; a torn last frame is cut off, the epoch goes on by one.
   * Throws FAILED_PRECONDITION when another process writes there, DATA_LOSS when safe bytes have changed, UNAVAILABLE when the
   * disk fails.
   */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const files = options.files ?? (await openSegmentFiles(options.dir));
    const unlock = await lockOutbox(options.dir);
    try {
      const newProducer = `${options.service}-${randomBytes(4).toString('hex')}`;
      const { head, segments } = await recoverOutbox(files, newProducer);
      return new Outbox(head, segments, options, files, unlock);
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  get status(): OutboxStatus {
    return this.#status === 'open' && this.bytes >= this.#hardBytes ? 'full' : this.#status;
  }

  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  /** Seq of the last record on disk; 0 before the first. */
  get durableSeq(): number {
    return this.#durable.seq;
  }

  /** Resolves when the record is on disk. Rejects with UNAVAILABLE when it is not and never will be. */
  append(event: AuditEvent): Promise<Receipt> {
    const refused = this.#refusal();
    if (refused) return Promise.reject(refused);
    const id = uuidv7();
    const seq = this.#head.seq + 1;
    let bytes: Buffer;
    try {
      bytes = recordBytes({
        ...event,
        v: AUDIT_RECORD_VERSION,
        id,
        ts: new Date().toISOString(),
        mono_ns: String(process.hrtime.bigint()),
        producer: this.producer,
        epoch: this.epoch,
        seq,
        prev: this.#head.sha256,
      });
    } catch (error) {
      return Promise.reject(error);
    }
    const sha256 = sha256Hex(bytes);
    this.#head = { seq, sha256 };
    return new Promise((resolve, reject) => {
      this.#waiting.push({ bytes, seq, sha256, reject, resolve: () => resolve({ id, seq }) });
      this.#flushing ??= this.#flush();
    });
  }

  #refusal(): QuernError | null {
    if (this.#status === 'failed')
      return unavailable('AUDIT_UNAVAILABLE', 'the disk of the outbox failed; see the log, then restart the service');
    if (this.#status === 'closed') return unavailable('AUDIT_UNAVAILABLE', 'the outbox is closed');
    if (this.bytes >= this.#hardBytes) {
      const message = `the outbox holds ${this.bytes} of at most ${this.#hardBytes} bytes; the audit service must catch up`;
      return unavailable('AUDIT_OUTBOX_FULL', message);
    }
    if (this.#waiting.length >= AUDIT_PENDING_RECORDS_MAX)
      return unavailable('AUDIT_OUTBOX_SLOW', `${this.#waiting.length} records wait for the disk; try again`);
    return null;
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      try {
        await this.#commit(batch);
      } catch (error) {
        await this.#onWriteError(batch, error);
      }
    }
    this.#flushing = null;
  }

  #takeBatch(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { bytes: record } of this.#waiting) {
      bytes += record.length + 1;
      if (count >= AUDIT_FRAME_RECORDS_MAX || bytes > AUDIT_FRAME_BYTES_MAX) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    const frame = encodeFrame(batch.map(({ bytes }) => bytes));
    const segment = await this.#segmentFor(frame.length, batch[0]!.seq);
    await this.#active!.write(frame, segment.bytes);
    try {
      await this.#active!.datasync();
      if (segment.bytes === 0) await this.#files.syncFolder(); // a new segment's name
    } catch (error) {
      // The kernel takes the dirty pages for clean: a later fdatasync that succeeds would prove nothing. The next start writes again
      // what it can read of them.
      this.#status = 'failed';
      throw error;
    }
    segment.bytes += frame.length;
    this.#status = 'open';
    const last = batch[batch.length - 1]!;
    this.#durable = { seq: last.seq, sha256: last.sha256 };
    for (const { resolve } of batch) resolve();
    for (const wake of this.#readers) wake();
  }

  async #segmentFor(length: number, firstSeq: number): Promise<Segment> {
    const last = this.#segments.at(-1);
    if (last && (last.bytes === 0 || last.bytes + length <= this.#segmentBytesMax)) {
      this.#active ??= await this.#files.open(last.name);
      return last;
    }
    const name = segmentName(firstSeq);
    const next = await this.#files.open(name);
    await this.#active?.close();
    this.#active = next;
    const segment = { name, firstSeq, bytes: 0 };
    this.#segments.push(segment);
    return segment;
  }

  /** Nothing of the batch counts as written, nor what was chained behind it. */
  async #onWriteError(batch: readonly Waiting[], error: unknown): Promise<void> {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (this.#status !== 'failed') {
      this.#status = OUT_OF_ROOM.has(code) ? 'full' : 'failed';
      const length = this.#segments.at(-1)?.bytes ?? 0;
      try {
        await this.#active?.truncate(length);
        await this.#active?.datasync();
      } catch {
        this.#status = 'failed';
      }
    }
    const refused =
      this.#status === 'full'
        ? unavailable('AUDIT_OUTBOX_FULL', `no room on the disk of the outbox (${code}); free some`, error)
        : unavailable('AUDIT_UNAVAILABLE', `the disk of the outbox failed (${code || String(error)})`, error);
    const chained = this.#waiting.splice(0);
    this.#head = { ...this.#durable };
    for (const { reject } of [...batch, ...chained]) reject(refused);
  }

  /** The first byte that is kept. */
  get firstPosition(): OutboxPosition {
    return { segment: this.#segments[0]?.firstSeq ?? this.#durable.seq + 1, offset: 0 };
  }

  /**
   * The frame at a position, or null when nothing durable is there yet. A position in a released segment means the first
   * kept one. Throws DATA_LOSS when the bytes have changed since they were written.
   */
  async frameAt(position: OutboxPosition): Promise<OutboxFrame | null> {
    const at = this.#segments.findIndex(({ firstSeq }) => firstSeq >= position.segment);
    const segment = this.#segments[at];
    if (!segment) return null;
    const offset = segment.firstSeq === position.segment ? position.offset : 0;
    if (offset >= segment.bytes) {
      const following = this.#segments[at + 1];
      return following && following.bytes > 0 ? this.frameAt({ segment: following.firstSeq, offset: 0 }) : null;
    }
    const length = Math.min(segment.bytes - offset, FRAME_HEADER_BYTES + AUDIT_FRAME_BYTES_MAX);
    const bytes = await this.#files.readRange(segment.name, offset, length);
    const payload = payloadAt(bytes, 0);
    if (payload === null) {
      const message = `audit: ${segment.name} is damaged at byte ${offset}; keep the folder and restore it from the ledger`;
      throw new QuernError('DATA_LOSS', message, { reason: 'AUDIT_OUTBOX_DAMAGED' });
    }
    const records = recordsOf(payload);
    const first = placeOf(records[0]!);
    const next = { segment: segment.firstSeq, offset: offset + FRAME_HEADER_BYTES + payload.length };
    const { epoch, seq: firstSeq, ts: firstTs } = first;
    return { bytes: payload, epoch, firstSeq, firstTs, lastSeq: firstSeq + records.length - 1, next };
  }

  /** The first record that is kept; the next one's number when none is. */
  get firstSeq(): number {
    return this.firstPosition.segment;
  }

  /** Record `seq` as it was written, or null: released, or not written yet. */
  async recordAt(seq: number): Promise<Buffer | null> {
    if (seq < this.firstSeq || seq > this.#durable.seq) return null;
    let frame = await this.frameAt(this.#segmentOf(seq));
    while (frame && frame.lastSeq < seq) frame = await this.frameAt(frame.next);
    return frame ? (recordsOf(frame.bytes)[seq - frame.firstSeq] ?? null) : null;
  }

  #segmentOf(seq: number): OutboxPosition {
    const at = this.#segments.findLastIndex(({ firstSeq }) => firstSeq <= seq);
    return at < 0 ? this.firstPosition : { segment: this.#segments[at]!.firstSeq, offset: 0 };
  }

  /** Every record that is kept, oldest first, up to the last one on disk when it gets there. */
  async *records(): AsyncGenerator<Buffer, void, undefined> {
    let frame = await this.frameAt(this.firstPosition);
    while (frame) {
      yield* recordsOf(frame.bytes);
      frame = await this.frameAt(frame.next);
    }
  }

  /** Tries whether a disk that had no room has some again, so that it need not wait for somebody's record to know. */
  async retry(): Promise<void> {
    const segment = this.#segments.at(-1);
    if (this.#status !== 'full' || this.#flushing || !segment) return;
    const work = this.#probe(segment).catch((error: NodeJS.ErrnoException) => {
      this.#status = OUT_OF_ROOM.has(error.code ?? '') ? 'full' : 'failed';
    });
    this.#flushing = work.then(() => this.#flush());
    await work;
  }

  /** Zeros are no frame: what a crash leaves of them is cut as a torn write. */
  async #probe(segment: Segment): Promise<void> {
    this.#active ??= await this.#files.open(segment.name);
    try {
      await this.#active.write(Buffer.alloc(FRAME_HEADER_BYTES + AUDIT_FRAME_BYTES_MAX), segment.bytes);
      await this.#active.datasync();
    } finally {
      await this.#active.truncate(segment.bytes);
    }
    await this.#active.datasync();
    this.#status = 'open';
  }

  /** Where the first frame that begins after record `seq` is, or will be. */
  async positionAfter(seq: number): Promise<OutboxPosition> {
    let position = this.#segmentOf(seq + 1);
    while (true) {
      const frame = await this.frameAt(position);
      if (!frame || frame.firstSeq > seq) return position;
      position = frame.next;
    }
  }

  /** Resolves after the next commit, or when the signal aborts. */
  committed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#readers.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#readers.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  /**
   * Deletes the segments whose every record has seq <= coveredSeq, which a verified checkpoint vouches for. `before` is awaited
   * when there are any, with the last seq that goes.
   */
  async release(coveredSeq: number, before?: (lastSeq: number) => Promise<void>): Promise<void> {
    const kept = this.#segments.findLastIndex(({ firstSeq }) => firstSeq - 1 <= coveredSeq);
    if (kept <= 0) return;
    await before?.(this.#segments[kept]!.firstSeq - 1);
    // The newest segment may still be empty: then only the state knows where the chain stands.
    await this.#saveState();
    for (const { name } of this.#segments.splice(0, kept)) await this.#files.remove(name);
  }

  #saveState(): Promise<void> {
    const { producer, epoch } = this;
    return writeState(this.#files, { producer, epoch, ...this.#durable });
  }

  /** Writes what waits, remembers the head and gives the folder back. Idempotent. */
  async close(): Promise<void> {
    if (this.#status === 'closed') return;
    await this.#flushing;
    const failed = this.#status === 'failed';
    this.#status = 'closed';
    await this.#active?.close();
    if (!failed) await this.#saveState();
    for (const wake of [...this.#readers]) wake();
    await this.#unlock();
  }
}
