// The ledger: every record's exact bytes in the order of the log, in segments of its own, and the Merkle tree over them.
// append() returns when bytes and leaf hashes are on this disk; only then may a checkpoint speak of them. Segments age away
// whole; their leaf hashes stay, and so do the places where the producers' chains stood behind them.
import { dirname, join } from 'node:path';
import { AGED_FILE, RECORDS_FOLDER, TREE_FOLDER } from '#kit/audit/ledger-folder.ts';
import { encodeLedgerFrame, type LedgerFrame, ledgerFrameAt, ledgerFrameBytes } from '#kit/audit/ledger-frame.ts';
import { LEDGER_FRAME_BYTES_MAX } from '#kit/audit/limits.ts';
import { leafHash } from '#kit/audit/merkle.ts';
import { openSegmentFiles, type SegmentFile, type SegmentFiles } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';
import { HashStore } from './hash-store.ts';
import {
  type AgedHeads,
  type Aside,
  damaged,
  finishAgeing,
  readAsides,
  recover,
  type Segment,
} from './ledger-recovery.ts';
import { LEDGER_HOLD_MS, LEDGER_RECORD_BYTES_MAX, LEDGER_SEGMENT_AGE_MS, LEDGER_SEGMENT_BYTES_MAX } from './limits.ts';

export type { AgedHeads } from './ledger-recovery.ts';

export type LedgerEntry = { index: number; bytes: Buffer };

const segmentName = (firstIndex: number): string => `${String(firstIndex).padStart(16, '0')}.qal`;

/** For whoever starts the service: what is wrong where, and what to do. */
function notServed(dir: string, error: unknown): unknown {
  if (!(error instanceof QuernError) || error.details.reason !== 'AUDIT_LEDGER_DAMAGED') return error;
  const message = `the audit ledger is not what was written: ${error.message}. ${howToVerify(dirname(dir))}`;
  return new QuernError('DATA_LOSS', message, error.details, { cause: error });
}

/** `dir`: of the log. */
export const howToVerify = (dir: string): string =>
  `It is not opened, and left as it is; "quern audit verify ${dir}" says which records are concerned`;

function tooSlow(): QuernError {
  const message =
    'the records were past their retention and let go of while they were read, which took too long; ask again';
  return new QuernError('ABORTED', message, { reason: 'AUDIT_READER_TOO_SLOW' });
}

export type LedgerOptions = {
  dir: string;
  segmentBytesMax?: number;
  segmentAgeMs?: number;
  /** For how long who reads keeps segments from going. */
  holdMs?: number;
  /** Wall clock, Unix milliseconds. */
  now?: () => number;
  /** What the newest checkpoint speaks of: a ledger that has less is left as it is. Default: none. */
  signedRecords?: number;
  /** For tests: files that fail. */
  files?: SegmentFiles;
};

/** Somebody who reads from the segment of `position` on. `hasEnded`: what it reads has gone. */
type Hold = { position: number; sinceMs: number; hasEnded: boolean };

/** Invariant: segments hold the records [firstIndex, size) without a gap; the tree has exactly `size` leaves. */
export class Ledger {
  readonly #files: SegmentFiles;
  readonly #segments: Segment[];
  readonly #hashes: HashStore;
  readonly #segmentBytesMax: number;
  readonly #segmentAgeMs: number;
  readonly #now: () => number;
  #agedHeads: AgedHeads;
  readonly #asides: Aside[];
  #active: SegmentFile | null = null;
  #failed = false;
  #stored: { size: number; root: Buffer };
  readonly #holds = new Set<Hold>();
  readonly #holdMs: number;

  private constructor(
    files: SegmentFiles,
    segments: Segment[],
    hashes: HashStore,
    options: LedgerOptions & { agedHeads: AgedHeads; asides: Aside[] },
  ) {
    this.#files = files;
    this.#segments = segments;
    this.#hashes = hashes;
    this.#stored = { size: hashes.size, root: hashes.root() };
    this.#agedHeads = options.agedHeads;
    this.#asides = options.asides;
    this.#segmentBytesMax = options.segmentBytesMax ?? LEDGER_SEGMENT_BYTES_MAX;
    this.#segmentAgeMs = options.segmentAgeMs ?? LEDGER_SEGMENT_AGE_MS;
    this.#holdMs = options.holdMs ?? LEDGER_HOLD_MS;
    this.#now = options.now ?? Date.now;
  }

  /** Throws DATA_LOSS when anything but an unfinished last write, or what no checkpoint covers yet, is wrong. */
  static async open(options: LedgerOptions): Promise<Ledger> {
    const files = options.files ?? (await openSegmentFiles(join(options.dir, RECORDS_FOLDER)));
    const hashes = await HashStore.open(join(options.dir, TREE_FOLDER));
    try {
      const agedHeads = await finishAgeing(files);
      const segments = await recover(files, hashes, options.signedRecords ?? 0);
      return new Ledger(files, segments, hashes, { ...options, agedHeads, asides: await readAsides(files) });
    } catch (error) {
      await hashes.close();
      throw notServed(options.dir, error);
    }
  }

  /** Records ever stored; those before firstIndex are known by their leaf hashes only. */
  get size(): number {
    return this.#hashes.size;
  }

  /**
   * The newest head whose records and leaf hashes are on the disk. `size` is ahead of it while an append goes on, and after one that
   * failed: only this may be signed, since a start takes for stored what was.
   */
  get stored(): Readonly<{ size: number; root: Buffer }> {
    return this.#stored;
  }

  /** A write went wrong: nothing more is taken until the ledger is opened again. */
  get hasFailed(): boolean {
    return this.#failed;
  }

  get firstIndex(): number {
    return this.#segments[0]?.firstIndex ?? this.size;
  }

  get agedHeads(): AgedHeads {
    return this.#agedHeads;
  }

  /** What was found changed at starts, behind all that is signed, and does not belong to the log; oldest first. */
  get asides(): readonly Aside[] {
    return this.#asides;
  }

  /** Remembers that the log says of it. */
  async tell(aside: Aside): Promise<void> {
    const { name, ...rest } = aside;
    await this.#files.replace(name, Buffer.from(`${JSON.stringify({ ...rest, told: true })}\n`));
    this.#asides.splice(this.#asides.indexOf(aside), 1, { ...aside, told: true });
  }

  /** Index of the first record of each segment. */
  get segmentStarts(): number[] {
    return this.#segments.map(({ firstIndex }) => firstIndex);
  }

  root(): Buffer {
    return this.#hashes.root();
  }

  /** Leaf hashes of the records [0, end), aged ones too. */
  leaves(end: number): AsyncGenerator<Buffer, void, undefined> {
    return this.#hashes.leaves(end);
  }

  node(level: number, index: number): Promise<Buffer> {
    return this.#hashes.node(level, index);
  }

  /** Stores records in this order; answers the index of the first. On an error none of them is stored. One call at a time. */
  async append(records: readonly Buffer[]): Promise<number> {
    if (this.#failed)
      throw new QuernError('UNAVAILABLE', 'the disk of the audit ledger failed; see the log, then restart');
    const firstIndex = this.size;
    let index = firstIndex;
    try {
      for (const group of groups(records)) {
        await this.#write({ firstIndex: index, records: group });
        index += group.length;
      }
      for (const bytes of records) this.#hashes.append(leafHash(bytes));
      await this.#hashes.flush();
      this.#stored = { size: this.size, root: this.root() };
    } catch (error) {
      // A later fdatasync that succeeds proves nothing about these bytes: the next start writes again what it can read of them.
      this.#failed = true;
      throw error;
    }
    return firstIndex;
  }

  async #write(frame: LedgerFrame): Promise<void> {
    const bytes = encodeLedgerFrame(frame);
    const segment = await this.#segmentFor(bytes.length, frame.firstIndex);
    await this.#active!.write(bytes, segment.bytes);
    await this.#active!.datasync();
    if (segment.bytes === 0) await this.#files.syncFolder();
    segment.bytes += bytes.length;
  }

  async #segmentFor(length: number, firstIndex: number): Promise<Segment> {
    const last = this.#segments.at(-1);
    // A clock that stepped, either way, begins one segment more.
    const isYoung = last && Math.abs(this.#now() - last.startedMs) < this.#segmentAgeMs;
    if (last && (last.bytes === 0 || (isYoung && last.bytes + length <= this.#segmentBytesMax))) {
      this.#active ??= await this.#files.open(last.name);
      return last;
    }
    const segment = { name: segmentName(firstIndex), firstIndex, bytes: 0, startedMs: this.#now() };
    const next = await this.#files.open(segment.name);
    await this.#active?.close();
    this.#active = next;
    this.#segments.push(segment);
    return segment;
  }

  /**
   * The stored records from `index` on, up to the size at the call. Throws OUT_OF_RANGE below firstIndex, and ABORTED when it
   * took so long that what it reads was let go of.
   */
  async *read(index: number): AsyncGenerator<LedgerEntry, void, undefined> {
    const end = this.size;
    if (index < this.firstIndex) {
      const message = `audit record ${index} is past its retention: records begin at ${this.firstIndex}`;
      throw new QuernError('OUT_OF_RANGE', message, { reason: 'AUDIT_RECORD_AGED' });
    }
    const from = this.#segments.findLastIndex(({ firstIndex }) => firstIndex <= index);
    const hold = this.#hold(index);
    try {
      for (const segment of this.#segments.slice(Math.max(0, from))) {
        hold.position = Math.max(index, segment.firstIndex);
        for await (const entry of this.#readSegment(segment)) {
          if (entry.index >= end) return;
          if (entry.index >= index) yield entry;
          if (hold.hasEnded) throw tooSlow();
        }
      }
    } catch (error) {
      throw hold.hasEnded ? tooSlow() : error; // a file that has gone
    } finally {
      this.#holds.delete(hold);
    }
  }

  /** No segment goes until `work` is done, or LEDGER_HOLD_MS is over: for reads that must speak of one and the same firstIndex. */
  async keeping<T>(work: () => Promise<T>): Promise<T> {
    const hold = this.#hold(0);
    try {
      return await work();
    } finally {
      this.#holds.delete(hold);
    }
  }

  #hold(position: number): Hold {
    const hold = { position, sinceMs: performance.now(), hasEnded: false };
    this.#holds.add(hold);
    return hold;
  }

  /** Whether somebody reads what lies before `index`, and has not done so for too long. */
  #isHeld(index: number): boolean {
    const sinceMs = performance.now() - this.#holdMs;
    return [...this.#holds].some((hold) => hold.position < index && hold.sinceMs > sinceMs);
  }

  async *#readSegment({ name, bytes }: Segment): AsyncGenerator<LedgerEntry, void, undefined> {
    for (let at = 0; at < bytes; ) {
      const part = await this.#files.readRange(name, at, Math.min(bytes - at, 2 * LEDGER_FRAME_BYTES_MAX));
      let done = 0;
      for (let frame = ledgerFrameAt(part, 0); frame; frame = ledgerFrameAt(part, done)) {
        for (const [i, record] of frame.records.entries()) yield { index: frame.firstIndex + i, bytes: record };
        done = frame.end;
        if (done >= part.length) break;
      }
      if (done === 0) throw damaged(`${name} has changed at byte ${at}`);
      at += done;
    }
  }

  /**
   * Deletes the segments whose every record lies before `index`; their leaf hashes stay. The newest segment stays, and all do
   * while somebody reads of them. `heads`: where the chains stand behind them, on disk before anything goes.
   */
  async dropBefore(index: number, heads: AgedHeads): Promise<number> {
    const kept = this.#segments.findLastIndex(({ firstIndex }) => firstIndex <= index);
    if (kept <= 0) return 0;
    const { firstIndex } = this.#segments[kept]!;
    if (this.#isHeld(firstIndex)) return 0;
    const aged = { v: 1, firstIndex, heads: Object.fromEntries(heads) };
    await this.#files.replace(AGED_FILE, Buffer.from(`${JSON.stringify(aged)}\n`));
    // Who began to read meanwhile holds what it read of: the segments go another time, or when the ledger is next opened.
    if (this.#isHeld(firstIndex)) return 0;
    for (const hold of this.#holds) hold.hasEnded ||= hold.position < firstIndex;
    this.#agedHeads = heads;
    for (const { name } of this.#segments.splice(0, kept)) await this.#files.remove(name);
    return kept;
  }

  async close(): Promise<void> {
    await this.#active?.close();
    await this.#hashes.close();
  }
}

function* groups(records: readonly Buffer[]): Generator<Buffer[]> {
  let group: Buffer[] = [];
  let bytes = 0;
  for (const record of records) {
    if (record.length > LEDGER_RECORD_BYTES_MAX) {
      const message = `audit ledger: expected a record of at most ${LEDGER_RECORD_BYTES_MAX} bytes, got ${record.length}`;
      throw new QuernError('INVALID_ARGUMENT', message, { reason: 'AUDIT_RECORD_INVALID' });
    }
    if (group.length > 0 && ledgerFrameBytes(group.length + 1, bytes + record.length) > LEDGER_FRAME_BYTES_MAX) {
      yield group;
      [group, bytes] = [[], 0];
    }
    group.push(record);
    bytes += record.length;
  }
  if (group.length > 0) yield group;
}
