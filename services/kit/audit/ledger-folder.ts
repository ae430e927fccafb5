// Checks the folder of an audit log as it lies on a disk: a copy, or one that its service refuses to open. It only reads, and it
// needs nothing but the public key. What the folder holds: `ledger/records`, segments of frames; `ledger/tree/level-00.bin`, the
// leaf hashes of all records ever; `ledger/records/aged.json`, what is known of records past their retention;
// `checkpoints.jsonl`, the signed notes.
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import type { NoteVerifier } from './checkpoint.ts';
import { newestCheckpoint, readCheckpoints } from './checkpoint-file.ts';
import { counted } from './counted.ts';
import { EvenSample } from './even-sample.ts';
import { scanLedger } from './ledger-frame.ts';
import { LEDGER_HASHES_PER_READ, VERIFY_CHECKPOINTS_MAX } from './limits.ts';
import { HASH_BYTES, leafHash } from './merkle.ts';
import { type ChainHead, LogDamage, type Verification, verifyLog } from './verify.ts';

export const LEDGER_FOLDER = 'ledger';
export const CHECKPOINTS_FILE = 'checkpoints.jsonl';
export const RECORDS_FOLDER = 'records';
export const TREE_FOLDER = 'tree';
export const LEAVES_FILE = 'level-00.bin';
export const AGED_FILE = 'aged.json';
/** A segment's name is the index of its first record. */
export const SEGMENT_NAME = /^(\d{16})\.qal$/;

/** Of what was found changed behind all that is signed: the index of the first record concerned. The service sets it aside and goes on. */
export const ASIDE_NAME = /^(\d{16})-\d+\.aside\.json$/;
export const asideName = (firstIndex: number, nowMs: number): string =>
  `${String(firstIndex).padStart(16, '0')}-${nowMs}.aside.json`;

/** A log that is whole again, and of which records that were not signed yet had been changed. */
export function asideFinding(firstIndex: number): Pick<Verification, 'verdict' | 'index' | 'message'> {
  const message =
    `the log is as it was signed, but what stood from record ${firstIndex} on and was not signed yet had been changed when its ` +
    'service started; it is kept in a file *.aside.json beside the records';
  return { verdict: 'gap', index: firstIndex, message };
}

type Segment = { name: string; firstIndex: number };

/** `segments` without those that an interrupted ageing left. `first`: of the oldest record whose bytes are kept. */
type Folder = {
  records: string;
  leaves: string;
  segments: Segment[];
  first: number;
  heads: Map<string, ChainHead>;
  /** Leaf hashes that were there when the reading began: a service that runs adds to them. */
  leafCount: number;
  /** The first record of which something was set aside. */
  aside: number | null;
};

async function openFolder(dir: string): Promise<Folder> {
  const records = join(dir, LEDGER_FOLDER, RECORDS_FOLDER);
  const leaves = join(dir, LEDGER_FOLDER, TREE_FOLDER, LEAVES_FILE);
  const names = await readdir(records).catch((error: NodeJS.ErrnoException) => {
    const message =
      `${dir}: expected the folder of an audit log (QUERN_AUDIT_DIR; "audit" in the state folder), with ` +
      `${LEDGER_FOLDER}/${RECORDS_FOLDER} and ${CHECKPOINTS_FILE} in it; ${records} cannot be read (${error.code})`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'AUDIT_FOLDER_INVALID' }, { cause: error });
  });
  const leafBytes = await stat(leaves).catch(() => ({ size: 0 }));
  const aged = await readAged(join(records, AGED_FILE));
  const segments = names
    .flatMap((name) => {
      const index = SEGMENT_NAME.exec(name)?.[1];
      return index === undefined ? [] : [{ name, firstIndex: Number(index) }];
    })
    .filter(({ firstIndex }) => firstIndex >= aged.first)
    .sort((a, b) => a.firstIndex - b.firstIndex);
  const [aside] = names.flatMap((name) => ASIDE_NAME.exec(name)?.[1] ?? []).sort();
  const leafCount = Math.floor(leafBytes.size / HASH_BYTES);
  return { records, leaves, segments, ...aged, leafCount, aside: aside === undefined ? null : Number(aside) };
}

async function readAged(path: string): Promise<Pick<Folder, 'first' | 'heads'>> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (text === null) return { first: 0, heads: new Map() };
  try {
    const { firstIndex, heads } = JSON.parse(text) as { firstIndex: number; heads: Record<string, ChainHead> };
    return { first: firstIndex, heads: new Map(Object.entries(heads)) };
  } catch {
    throw new LogDamage('altered', 0, `${AGED_FILE}, which says where the kept records begin, is not readable`);
  }
}

/** The leaf hashes [begin, end), as far as there are. */
async function* leafHashes(path: string, begin: number, end: number): AsyncGenerator<Buffer, void, undefined> {
  if (begin >= end) return;
  const highWaterMark = LEDGER_HASHES_PER_READ * HASH_BYTES;
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, {
    start: begin * HASH_BYTES,
    end: end * HASH_BYTES - 1,
    highWaterMark,
  })) {
    const bytes = Buffer.concat([rest, chunk as Buffer]);
    let at = 0;
    for (; at + HASH_BYTES <= bytes.length; at += HASH_BYTES) yield bytes.subarray(at, at + HASH_BYTES);
    rest = bytes.subarray(at);
  }
}

async function* agedLeaves({ leaves, first, leafCount }: Folder): AsyncGenerator<Buffer, void, undefined> {
  if (leafCount < first) {
    const message = `${LEAVES_FILE} has ${leafCount} hashes, but the first ${first} records are known by theirs only`;
    throw new LogDamage('missing', leafCount, message);
  }
  yield* leafHashes(leaves, 0, first);
}

/** The records of all segments. Only the newest may end with a torn write, which was never told to anybody. */
async function* records({ records: dir, segments, first, leafCount }: Folder): AsyncGenerator<Buffer, void, undefined> {
  let expected = first;
  for (const [i, { name, firstIndex }] of segments.entries()) {
    if (firstIndex > expected) throw gone(expected, firstIndex - 1, name);
    const { verdict, frames, goodBytes } = scanLedger(await readFile(join(dir, name)));
    for (const frame of frames) {
      if (frame.firstIndex > expected) throw gone(expected, frame.firstIndex - 1, name);
      if (frame.firstIndex < expected)
        throw new LogDamage('reordered', expected, `${name} has record ${frame.firstIndex} in its place`);
      yield* frame.records;
      expected += frame.records.length;
    }
    // Hashes are stored when their records are: a torn write has none.
    const isTorn = verdict === 'torn' && i === segments.length - 1 && leafCount <= expected;
    if (verdict !== 'clean' && !isTorn)
      throw new LogDamage('altered', expected, `${name} has changed at byte ${goodBytes}`);
  }
}

function gone(from: number, to: number, name: string): LogDamage {
  const which = from === to ? `record ${from} is` : `records ${from} to ${to} are`;
  return new LogDamage('missing', from, `${which} not there: ${name} goes on with record ${to + 1}`);
}

/** Passes records on and keeps the first that is not the one whose hash was stored beside it. */
class LeafCheck {
  mismatch: number | null = null;
  index: number;
  readonly #folder: Folder;

  constructor(folder: Folder) {
    this.#folder = folder;
    this.index = folder.first;
  }

  async *check(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    const { leaves, first, leafCount } = this.#folder;
    const stored = leafHashes(leaves, first, leafCount);
    try {
      for await (const bytes of source) {
        const { value: leaf } = await stored.next();
        if (leaf && !leafHash(bytes).equals(leaf)) this.mismatch ??= this.index;
        this.index += 1;
        yield bytes;
      }
    } finally {
      await stored.return();
    }
  }

  /** What the signatures cannot tell: of records that no checkpoint covers. */
  judge(verification: Verification): Verification {
    if (verification.verdict !== 'ok' && verification.verdict !== 'gap') return verification;
    const { mismatch, index } = this;
    const { leafCount, aside } = this.#folder;
    if (mismatch !== null) {
      const message = `record ${mismatch} is not the one whose hash was stored`;
      return { ...verification, verdict: 'altered', index: mismatch, message };
    }
    if (leafCount <= index && (aside === null || verification.verdict === 'gap')) return verification;
    if (leafCount <= index) return { ...verification, ...asideFinding(aside!) };
    const message = `the log ends after ${counted(index, 'record')}, but hashes of ${leafCount} were stored`;
    return { ...verification, verdict: 'truncated', index, message };
  }
}

async function notesOf(dir: string): Promise<string[]> {
  const sample = new EvenSample<string>(VERIFY_CHECKPOINTS_MAX);
  for await (const { note } of readCheckpoints(join(dir, CHECKPOINTS_FILE))) sample.add(note);
  return sample.items;
}

/** The name of the log as its newest checkpoint has it; null: none is signed yet, or it is not readable. */
export async function originOf(dir: string): Promise<string | null> {
  const newest = await newestCheckpoint(join(dir, CHECKPOINTS_FILE)).catch(() => null);
  return newest?.note.split('\n', 1)[0] ?? null;
}

export type LedgerFolderOptions = {
  verifier: NoteVerifier;
  /** A signed note that was kept elsewhere. */
  trusted?: string | undefined;
};

/** Throws INVALID_ARGUMENT when this is no folder of a log. What is wrong with the log is the verdict. */
export async function verifyLedgerFolder(
  dir: string,
  { verifier, trusted }: LedgerFolderOptions,
): Promise<Verification> {
  const none = { records: 0, covered: 0 };
  try {
    // In this order, because a service may run: each note then speaks of records that are there.
    const notes = await notesOf(dir);
    const folder = await openFolder(dir);
    const check = new LeafCheck(folder);
    const verification = await verifyLog({
      records: check.check(records(folder)),
      aged: agedLeaves(folder),
      heads: folder.heads,
      origin: verifier.name,
      verifiers: [verifier],
      checkpoints: notes,
      trusted,
    });
    return check.judge(verification);
  } catch (error) {
    if (error instanceof LogDamage)
      return { ...none, verdict: error.verdict, index: error.index, message: error.message };
    if (!(error instanceof QuernError) || error.code !== 'DATA_LOSS') throw error;
    const message = error.message.replace(dir, basename(dir));
    return { ...none, verdict: 'bad_signature', index: null, message };
  }
}
