// The ledger: every record's exact bytes in the order of the log, in segments of its own, and the Merkle tree over them.
// append() returns when bytes and leaf hashes are on this disk; only then may a checkpoint speak of them. Segments age away
// whole; their leaf hashes stay, and so do the places where the producers' chains stood behind them.
import { dirname, join } from 'node:path';
import { AGED_FILE, LEAVES_FILE, RECORDS_FOLDER, SEGMENT_NAME, TREE_FOLDER } from '#kit/audit/ledger-folder.ts';
import {
  encodeLedgerFrame,
  type LedgerFrame,
  ledgerFrameAt,
  ledgerFrameBytes,
  scanLedger,
} from '#kit/audit/ledger-frame.ts';
import { LEDGER_FRAME_BYTES_MAX } from '#kit/audit/limits.ts';
import { leafHash } from '#kit/audit/merkle.ts';
import { placeOf } from '#kit/audit/record.ts';
import { openSegmentFiles, type SegmentFile, type SegmentFiles } from '#kit/audit/segment-files.ts';
import type { ChainHead } from '#kit/audit/verify.ts';
import { QuernError } from '#kit/errors.ts';
import { HashStore } from './hash-store.ts';
import { LEDGER_HOLD_MS, LEDGER_RECORD_BYTES_MAX, LEDGER_SEGMENT_AGE_MS, LEDGER_SEGMENT_BYTES_MAX } from './limits.ts';

/** `startedMs`: wall clock of its first record. */
type Segment = { name: string; firstIndex: number; bytes: number; startedMs: number };

/** Where the producers' chains stood behind the last record that has aged. */
export type AgedHeads = ReadonlyMap<string, ChainHead>;

export type LedgerEntry = { index: number; bytes: Buffer };

const segmentName = (firstIndex: number): string => `${String(firstIndex).padStart(16, '0')}.qal`;

function damaged(what: string): QuernError {
  return new QuernError('DATA_LOSS', what, { reason: 'AUDIT_LEDGER_DAMAGED' });
}

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
  #active: SegmentFile | null = null;
  #failed = false;
  readonly #holds = new Set<Hold>();
  readonly #holdMs: number;

  private constructor(
    files: SegmentFiles,
    segments: Segment[],
    hashes: HashStore,
    agedHeads: AgedHeads,
    options: LedgerOptions,
  ) {
    this.#files = files;
    this.#segments = segments;
    this.#hashes = hashes;
    this.#agedHeads = agedHeads;
    this.#segmentBytesMax = options.segmentBytesMax ?? LEDGER_SEGMENT_BYTES_MAX;
    this.#segmentAgeMs = options.segmentAgeMs ?? LEDGER_SEGMENT_AGE_MS;
    this.#holdMs = options.holdMs ?? LEDGER_HOLD_MS;
    this.#now = options.now ?? Date.now;
  }

  /** Throws DATA_LOSS when anything but an unfinished last write is wrong. */
  static async open(options: LedgerOptions): Promise<Ledger> {
    const files = options.files ?? (await openSegmentFiles(join(options.dir, RECORDS_FOLDER)));
    const hashes = await HashStore.open(join(options.dir, TREE_FOLDER));
    try {
      const agedHeads = await finishAgeing(files);
      const segments = await recover(files, hashes, options.signedRecords ?? 0);
      return new Ledger(files, segments, hashes, agedHeads, options);
    } catch (error) {
      await hashes.close();
      throw notServed(options.dir, error);
    }
  }

  /** Records ever stored; those before firstIndex are known by their leaf hashes only. */
  get size(): number {
    return this.#hashes.size;
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
    } catch (error) {
      // A later fdatasync that succeeds proves nothing about these bytes: what can be re-read decides at the next start.
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

/**
 * Cuts a torn last frame and makes the tree agree with what is there. Segments whose leaves the tree has are taken as they
 * are, but for the newest: reading them all is what `quern audit verify` does.
 */
async function recover(files: SegmentFiles, hashes: HashStore, signedRecords: number): Promise<Segment[]> {
  const names = (await files.list()).filter((name) => SEGMENT_NAME.test(name));
  const firstIndexes = names.map((name) => Number(SEGMENT_NAME.exec(name)![1]));
  if (names.length === 0 && Math.max(hashes.size, signedRecords) > 0) {
    const known = `${Math.max(hashes.size, signedRecords)} records, whose hashes or checkpoint are there`;
    throw damaged(`${RECORDS_FOLDER}: expected the segments of ${known}, found none`);
  }
  if (names.length > 0 && hashes.size < firstIndexes[0]!) {
    const [expected, found] = [`hashes of at least ${firstIndexes[0]} aged records`, hashes.size];
    throw damaged(`${TREE_FOLDER}/${LEAVES_FILE}: expected ${expected}, found ${found}`);
  }
  const segments: Segment[] = [];
  for (const [i, name] of names.entries()) {
    const [firstIndex, following] = [firstIndexes[i]!, firstIndexes[i + 1]];
    const known = following !== undefined && hashes.size >= following;
    const checked = known
      ? { bytes: await files.size(name), startedMs: 0 }
      : await checkSegment(files, hashes, { name, firstIndex, following: following ?? null, signedRecords });
    segments.push({ name, firstIndex, ...checked });
  }
  await hashes.flush();
  return segments;
}

type Unchecked = { name: string; firstIndex: number; following: number | null; signedRecords: number };

/** Reads a segment, adds the leaves that the tree lacks, takes back those that the newest one does not have. */
async function checkSegment(files: SegmentFiles, hashes: HashStore, segment: Unchecked) {
  const { name, firstIndex, following, signedRecords } = segment;
  const { verdict, frames, goodBytes } = scanLedger((await files.read(name)) ?? Buffer.alloc(0));
  if (verdict === 'damaged' || (verdict === 'torn' && following !== null)) {
    throw damaged(`${name} at byte ${goodBytes}: expected a frame of records, found changed bytes`);
  }
  let next = firstIndex;
  for (const frame of frames) {
    if (frame.firstIndex !== next)
      throw damaged(`${name}: expected record ${next} next, found record ${frame.firstIndex}`);
    for (const record of frame.records) {
      await checkLeaf(hashes, next, leafHash(record));
      next += 1;
    }
  }
  if (following !== null && following !== next) {
    throw damaged(
      `${RECORDS_FOLDER}: expected a segment that begins with record ${next}, found one of record ${following}`,
    );
  }
  if (following === null && next < signedRecords) {
    throw damaged(`${name}: expected records up to ${signedRecords - 1}, as were signed, found them up to ${next - 1}`);
  }
  if (hashes.size > next) await hashes.truncate(next);
  if (verdict === 'torn') await cut(files, name, goodBytes);
  return { bytes: goodBytes, startedMs: startOf(frames) };
}

/** What is known of the records that have aged. A deletion that a crash interrupted is brought to its end. */
async function finishAgeing(files: SegmentFiles): Promise<AgedHeads> {
  const bytes = await files.read(AGED_FILE);
  if (bytes === null) return new Map();
  let aged: { firstIndex: number; heads: Record<string, ChainHead> };
  try {
    aged = JSON.parse(bytes.toString('utf8')) as typeof aged;
  } catch (cause) {
    throw damaged(`${AGED_FILE}: expected where the kept records begin, found no JSON (${(cause as Error).message})`);
  }
  for (const name of await files.list()) {
    const match = SEGMENT_NAME.exec(name);
    if (match && Number(match[1]) < aged.firstIndex) await files.remove(name);
  }
  return new Map(Object.entries(aged.heads));
}

function startOf(frames: readonly LedgerFrame[]): number {
  const first = frames[0]?.records[0];
  try {
    return first ? Date.parse(placeOf(first).ts) || Date.now() : Date.now();
  } catch {
    return Date.now(); // no record: kept as it is
  }
}

async function cut(files: SegmentFiles, name: string, length: number): Promise<void> {
  const file = await files.open(name);
  try {
    await file.truncate(length);
    await file.datasync();
  } finally {
    await file.close();
  }
}

async function checkLeaf(hashes: HashStore, index: number, leaf: Buffer): Promise<void> {
  if (index === hashes.size) hashes.append(leaf);
  else if (!(await hashes.node(0, index)).equals(leaf))
    throw damaged(`record ${index}: expected the one whose hash was stored, found another`);
}
