// What a start makes of an outbox folder: checks every segment, finds the head of the chain, makes sure that the disk has the last
// frames, cuts a torn one.
import { QuernError } from '#kit/errors.ts';
import { FRAME_HEADER_BYTES, recordsOf, scanFrames } from './frame.ts';
import { NO_RECORD_SHA256, placeOf, sha256Hex } from './record.ts';
import { cutEnd, writeAgain } from './segment-end.ts';
import type { SegmentFiles } from './segment-files.ts';

/** `bytes`: durable length. The file is named for the seq of its first record. */
export type Segment = { name: string; firstSeq: number; bytes: number };

/** The producer's chain: seq and hash of its last record; seq 0 before the first. */
export type OutboxHead = { producer: string; epoch: number; seq: number; sha256: string };

const STATE = 'state.json';
const SEGMENT = /^(\d{16})\.log$/;

export function segmentName(firstSeq: number): string {
  return `${String(firstSeq).padStart(16, '0')}.log`;
}

function damaged(what: string): QuernError {
  const message = `audit outbox: ${what}; nothing was changed: keep the folder, restore it, or start with a new one`;
  return new QuernError('DATA_LOSS', message, { reason: 'AUDIT_OUTBOX_DAMAGED' });
}

export async function writeState(files: SegmentFiles, head: OutboxHead): Promise<void> {
  await files.replace(STATE, Buffer.from(`${JSON.stringify({ v: 1, ...head })}\n`));
}

async function readState(files: SegmentFiles): Promise<OutboxHead | null> {
  const bytes = await files.read(STATE);
  if (bytes === null) return null;
  let state: Partial<OutboxHead> & { v?: number } = {};
  try {
    state = JSON.parse(bytes.toString('utf8')) as typeof state;
  } catch {
    // told below
  }
  const { v, producer, epoch, seq, sha256 } = state;
  const whole = v === 1 && typeof producer === 'string' && typeof sha256 === 'string';
  if (!whole || !Number.isSafeInteger(epoch) || !Number.isSafeInteger(seq)) throw damaged(`${STATE} is not readable`);
  return { producer, epoch: epoch as number, seq: seq as number, sha256 };
}

/** Continues `head` through the records of one segment. */
function follow(head: OutboxHead, name: string, payloads: readonly Buffer[]): OutboxHead {
  let { seq, sha256 } = head;
  for (const payload of payloads) {
    for (const bytes of recordsOf(payload)) {
      const place = placeOf(bytes);
      if (place.producer !== head.producer)
        throw damaged(`${name} has records of ${place.producer}, not ${head.producer}`);
      if (place.seq !== seq + 1) throw damaged(`${name}: expected record ${seq + 1}, found ${place.seq}`);
      if (place.prev !== sha256) throw damaged(`${name}: record ${place.seq} does not follow the one before it`);
      seq = place.seq;
      sha256 = sha256Hex(bytes);
    }
  }
  return { ...head, seq, sha256 };
}

/** Where the kept records begin: the first record names its predecessor's hash. */
function beginning(state: OutboxHead, firstSeq: number, payload: Buffer | undefined): OutboxHead {
  if (payload === undefined) return state;
  const [first] = recordsOf(payload);
  return { ...state, seq: firstSeq - 1, sha256: placeOf(first!).prev };
}

/** `good`: the bytes of the whole frames, which hold the payloads. */
type Contents = { good: Buffer; payloads: Buffer[]; isTorn: boolean };

async function readSegment(files: SegmentFiles, name: string, isLast: boolean): Promise<Contents> {
  const bytes = (await files.read(name)) ?? Buffer.alloc(0);
  const { verdict, payloads, goodBytes } = scanFrames(bytes);
  const isTorn = verdict === 'torn';
  if (isTorn ? !isLast : verdict !== 'clean') throw damaged(`${name} has changed at byte ${goodBytes}`);
  return { payloads, good: bytes.subarray(0, goodBytes), isTorn };
}

/** Where the frames end whose records all have seq <= `seq`. */
function endOf(seq: number, { firstSeq }: Segment, payloads: readonly Buffer[]): number {
  let [next, at] = [firstSeq, 0];
  for (const payload of payloads) {
    next += recordsOf(payload).length;
    if (next - 1 > seq) break;
    at += FRAME_HEADER_BYTES + payload.length;
  }
  return at;
}

/**
 * Makes sure that the disk has the newest segment's frames behind record `safeSeq`, up to which the state says that it had them;
 * older segments were synced before the newest was begun. Then cuts what a crash tore.
 */
async function settleEnd(files: SegmentFiles, segment: Segment, contents: Contents, safeSeq: number): Promise<void> {
  const [end, from] = [{ files, name: segment.name }, endOf(safeSeq, segment, contents.payloads)];
  await writeAgain(end, from, contents.good.subarray(from));
  if (contents.isTorn) await cutEnd(end, segment.bytes);
}

/**
 * Throws DATA_LOSS when anything but an unfinished last write is wrong, UNAVAILABLE when the disk fails. All records, and the new
 * epoch, are durable when it returns.
 */
export async function recoverOutbox(
  files: SegmentFiles,
  newProducer: string,
): Promise<{ head: OutboxHead; segments: Segment[] }> {
  const names = (await files.list()).filter((name) => SEGMENT.test(name));
  const state = await readState(files);
  if (state === null && names.length > 0) throw damaged(`there are segments but no ${STATE}`);
  const stored = state ?? { producer: newProducer, epoch: 0, seq: 0, sha256: NO_RECORD_SHA256 };
  const segments: Segment[] = [];
  let head: OutboxHead | null = null;
  let newest: Contents | null = null;
  for (const [i, name] of names.entries()) {
    const firstSeq = Number(SEGMENT.exec(name)![1]);
    newest = await readSegment(files, name, i === names.length - 1);
    const { payloads, good } = newest;
    head ??= beginning(stored, firstSeq, payloads[0]);
    if (firstSeq !== head.seq + 1) throw damaged(`${name}: expected a segment that begins with record ${head.seq + 1}`);
    head = follow(head, name, payloads);
    segments.push({ name, firstSeq, bytes: good.length });
  }
  head ??= stored;
  if (head.seq < stored.seq) throw damaged(`records ${head.seq + 1} to ${stored.seq} are missing`);
  if (newest) await settleEnd(files, segments.at(-1)!, newest, stored.seq); // only now: a folder that is refused stays as it is
  const next = { ...head, epoch: stored.epoch + 1 };
  await writeState(files, next);
  return { head: next, segments };
}
