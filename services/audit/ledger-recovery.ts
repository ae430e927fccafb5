// What a start makes of the ledger's files: makes sure that the disk has the last records and their hashes, cuts a torn last write,
// makes the tree agree with the records, finds what was changed.
import {
  AGED_FILE,
  ASIDE_NAME,
  asideName,
  LEAVES_FILE,
  RECORDS_FOLDER,
  SEGMENT_NAME,
  TREE_FOLDER,
} from '#kit/audit/ledger-folder.ts';
import { type LedgerFrame, type LedgerScan, scanLedger } from '#kit/audit/ledger-frame.ts';
import { HASH_BYTES, leafHash } from '#kit/audit/merkle.ts';
import { placeOf } from '#kit/audit/record.ts';
import { cutEnd, writeAgain } from '#kit/audit/segment-end.ts';
import type { SegmentFiles } from '#kit/audit/segment-files.ts';
import type { ChainHead } from '#kit/audit/verify.ts';
import { QuernError } from '#kit/errors.ts';
import type { HashStore } from './hash-store.ts';

/** `startedMs`: wall clock of its first record. */
export type Segment = { name: string; firstIndex: number; bytes: number; startedMs: number };

/** Where the producers' chains stood behind the last record that has aged. */
export type AgedHeads = ReadonlyMap<string, ChainHead>;

export function damaged(what: string): QuernError {
  return new QuernError('DATA_LOSS', what, { reason: 'AUDIT_LEDGER_DAMAGED' });
}

/** Bytes behind the last whole frame of the newest segment that no crash leaves there, and the hashes of records that are gone. */
export type Aside = {
  name: string;
  v: 1;
  /** Where it was: segment, byte, and the index of the first record concerned. */
  segment: string;
  offset: number;
  firstIndex: number;
  /** Hex, of records that had been stored from firstIndex on. */
  leaves: string[];
  /** Base64. */
  bytes: string;
  /** An audit.gap record says of it. */
  told: boolean;
};

export async function readAsides(files: SegmentFiles): Promise<Aside[]> {
  const asides: Aside[] = [];
  for (const name of (await files.list()).filter((one) => ASIDE_NAME.test(one))) {
    try {
      asides.push({ name, ...(JSON.parse((await files.read(name))!.toString('utf8')) as Omit<Aside, 'name'>) });
    } catch (cause) {
      throw damaged(`${name}: expected what was set aside, found no JSON (${(cause as Error).message})`);
    }
  }
  return asides;
}

/**
 * Cuts a torn last frame and makes the tree agree with what is there. What a crash cannot have made is set aside before it is cut.
 * Segments of signed records are taken as they are, but for the newest: reading them all is what `quern audit verify` does. What is
 * there, its hashes too, is durable when it returns; throws UNAVAILABLE when the disk fails.
 */
export async function recover(files: SegmentFiles, hashes: HashStore, signedRecords: number): Promise<Segment[]> {
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
    const known = following !== undefined && Math.min(hashes.size, signedRecords) >= following;
    const checked = known
      ? { bytes: await files.size(name), startedMs: 0 }
      : await checkSegment(files, hashes, { name, firstIndex, following: following ?? null, signedRecords });
    segments.push({ name, firstIndex, ...checked });
  }
  await hashes.secure(signedRecords);
  return segments;
}

type Unchecked = { name: string; firstIndex: number; following: number | null; signedRecords: number };

/** Reads a segment, adds the leaves that the tree lacks, takes back those that the newest one does not have. */
async function checkSegment(files: SegmentFiles, hashes: HashStore, segment: Unchecked) {
  const { name, firstIndex, following, signedRecords } = segment;
  const bytes = (await files.read(name)) ?? Buffer.alloc(0);
  const { verdict, frames, goodBytes } = scanLedger(bytes);
  if (verdict === 'damaged' || (verdict !== 'clean' && following !== null)) {
    throw damaged(`${name} at byte ${goodBytes}: expected a frame of records, found changed bytes`);
  }
  let [next, safeBytes] = [firstIndex, 0];
  for (const frame of frames) {
    if (frame.firstIndex !== next)
      throw damaged(`${name}: expected record ${next} next, found record ${frame.firstIndex}`);
    let isSafe = true;
    for (const record of frame.records) {
      isSafe = (await checkLeaf(hashes, next, leafHash(record), signedRecords)) && isSafe;
      next += 1;
    }
    if (isSafe) safeBytes = frame.end;
  }
  if (following !== null && following !== next) {
    throw damaged(
      `${RECORDS_FOLDER}: expected a segment that begins with record ${next}, found one of record ${following}`,
    );
  }
  if (following === null && next < signedRecords) {
    throw damaged(`${name}: expected records up to ${signedRecords - 1}, as were signed, found them up to ${next - 1}`);
  }
  if (following === null) {
    await settleEnd(files, hashes, { name, next, bytes, safeBytes, goodBytes, verdict });
  }
  return { bytes: goodBytes, startedMs: startOf(frames) };
}

type Newest = Pick<LedgerScan, 'verdict' | 'goodBytes'> & {
  name: string;
  bytes: Buffer;
  /** Frames up to here have their hashes stored, which is done when the disk has them; older segments were synced before this one. */
  safeBytes: number;
  /** Index behind the last record. */
  next: number;
};

/** Makes sure that the disk has the newest segment's records, then takes away what is no record. */
async function settleEnd(files: SegmentFiles, hashes: HashStore, newest: Newest): Promise<void> {
  const { name, bytes, safeBytes, goodBytes, verdict, next } = newest;
  const end = { files, name };
  await writeAgain(end, safeBytes, bytes.subarray(safeBytes, goodBytes)); // first: when the disk fails, no record has been cut
  // A record's hash is stored when the record is safe: where there are hashes, no crash took it.
  if (verdict === 'altered' || hashes.size > next) {
    await setAside(files, hashes, {
      segment: name,
      offset: goodBytes,
      firstIndex: next,
      bytes: bytes.subarray(goodBytes),
    });
  }
  if (hashes.size > next) await hashes.truncate(next);
  if (verdict !== 'clean') await cutEnd(end, goodBytes);
}

type Tail = Pick<Aside, 'segment' | 'offset' | 'firstIndex'> & { bytes: Buffer };

async function setAside(files: SegmentFiles, hashes: HashStore, { bytes, ...place }: Tail): Promise<void> {
  const leaves: string[] = [];
  for (let index = place.firstIndex; index < hashes.size; index += 1) {
    leaves.push((await hashes.node(0, index)).toString('hex'));
  }
  const aside: Omit<Aside, 'name'> = { v: 1, ...place, leaves, bytes: bytes.toString('base64'), told: false };
  await files.replace(asideName(place.firstIndex, Date.now()), Buffer.from(`${JSON.stringify(aside)}\n`));
}

/** What is known of the records that have aged. A deletion that a crash interrupted is brought to its end. */
export async function finishAgeing(files: SegmentFiles): Promise<AgedHeads> {
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

/** Hashes that are not synced yet may be zeros after a crash; those of signed records were. */
const UNWRITTEN = Buffer.alloc(HASH_BYTES);

/** Answers whether the hash was there: then the disk had the record before. */
async function checkLeaf(hashes: HashStore, index: number, leaf: Buffer, signedRecords: number): Promise<boolean> {
  const isUnsigned = index >= signedRecords && index < hashes.size;
  if (isUnsigned && (await hashes.node(0, index)).equals(UNWRITTEN)) await hashes.truncate(index);
  if (index === hashes.size) {
    hashes.append(leaf);
    return false;
  }
  if (!(await hashes.node(0, index)).equals(leaf))
    throw damaged(`record ${index}: expected the one whose hash was stored, found another`);
  return true;
}
