// A frame of the ledger: the records of one commit, each with its length, because a ledger keeps unreadable bytes too.
// Layout: magic "QAL1", u32 length of the payload, u32 CRC-32 of it, payload = u64 index of its first record, then for each
// record u32 length and its bytes. Little-endian.
import { crc32 } from 'node:zlib';
import { assert } from '#kit/assert.ts';
import { LEDGER_FRAME_BYTES_MAX } from './limits.ts';
import { type FrameForm, isTornWrite } from './torn-write.ts';

const MAGIC = Buffer.from('QAL1', 'latin1');
const FORM: FrameForm = { magic: MAGIC, payloadBytesMax: LEDGER_FRAME_BYTES_MAX };
const HEADER_BYTES = 12;
const INDEX_BYTES = 8;
const LENGTH_BYTES = 4;

/** Bytes of a frame of records with these lengths in sum. */
export function ledgerFrameBytes(count: number, recordBytes: number): number {
  return HEADER_BYTES + INDEX_BYTES + count * LENGTH_BYTES + recordBytes;
}

export type LedgerFrame = { firstIndex: number; records: Buffer[] };
/** `end`: where it ends in what was read. */
export type PlacedFrame = LedgerFrame & { end: number };

export function encodeLedgerFrame({ firstIndex, records }: LedgerFrame): Buffer {
  const total = ledgerFrameBytes(
    records.length,
    records.reduce((sum, record) => sum + record.length, 0),
  );
  assert(total - HEADER_BYTES <= LEDGER_FRAME_BYTES_MAX, `a ledger frame of ${total} bytes is too large`);
  const frame = Buffer.allocUnsafe(total);
  let at = frame.writeBigUInt64LE(BigInt(firstIndex), HEADER_BYTES);
  for (const record of records) {
    at = frame.writeUInt32LE(record.length, at);
    at += record.copy(frame, at);
  }
  MAGIC.copy(frame);
  frame.writeUInt32LE(total - HEADER_BYTES, 4);
  frame.writeUInt32LE(crc32(frame.subarray(HEADER_BYTES)), 8);
  return frame;
}

function recordsIn(payload: Buffer): Buffer[] | null {
  const records: Buffer[] = [];
  let at = INDEX_BYTES;
  while (at < payload.length) {
    if (at + LENGTH_BYTES > payload.length) return null;
    const end = at + LENGTH_BYTES + payload.readUInt32LE(at);
    if (end > payload.length) return null;
    records.push(payload.subarray(at + LENGTH_BYTES, end));
    at = end;
  }
  return records;
}

/** The frame at `at` and where it ends, or null when there is no whole, undamaged frame. */
export function ledgerFrameAt(bytes: Buffer, at: number): PlacedFrame | null {
  const body = at + HEADER_BYTES;
  if (body > bytes.length || bytes.compare(MAGIC, 0, 4, at, at + 4) !== 0) return null;
  const length = bytes.readUInt32LE(at + 4);
  if (length < INDEX_BYTES || length > LEDGER_FRAME_BYTES_MAX || body + length > bytes.length) return null;
  const payload = bytes.subarray(body, body + length);
  if (crc32(payload) !== bytes.readUInt32LE(at + 8)) return null;
  const records = recordsIn(payload);
  if (records === null || records.length === 0) return null;
  return { firstIndex: Number(payload.readBigUInt64LE(0)), records, end: body + length };
}

/** See kit/audit/frame.ts: only the last frame can be torn, for one write is on its way at a time. */
export type LedgerScan = {
  verdict: 'clean' | 'torn' | 'altered' | 'damaged';
  frames: PlacedFrame[];
  goodBytes: number;
};

export function scanLedger(bytes: Buffer): LedgerScan {
  const frames: PlacedFrame[] = [];
  let at = 0;
  while (at < bytes.length) {
    const frame = ledgerFrameAt(bytes, at);
    if (!frame) {
      const verdict = isTornWrite(bytes, at, FORM) ? 'torn' : 'altered';
      return { verdict: hasFrameAfter(bytes, at + 1) ? 'damaged' : verdict, frames, goodBytes: at };
    }
    frames.push(frame);
    at = frame.end;
  }
  return { verdict: 'clean', frames, goodBytes: at };
}

function hasFrameAfter(bytes: Buffer, from: number): boolean {
  for (let at = bytes.indexOf(MAGIC, from); at >= 0; at = bytes.indexOf(MAGIC, at + 1)) {
    if (ledgerFrameAt(bytes, at)) return true;
  }
  return false;
}
