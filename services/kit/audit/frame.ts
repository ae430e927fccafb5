// A frame: the records of one group commit, as they lie in the outbox and as they travel.
// Layout: magic "QAF1", u32 length of the payload, u32 CRC-32 of it (both little-endian), payload. The payload is the
// records' canonical bytes joined by "\n"; canonical JSON has no raw newline, so splitting gives the exact bytes back.
import { crc32 } from 'node:zlib';
import { assert } from '#kit/assert.ts';
import { AUDIT_FRAME_BYTES_MAX } from './limits.ts';
import { type FrameForm, isTornWrite } from './torn-write.ts';

export const FRAME_HEADER_BYTES = 12;
const MAGIC = Buffer.from('QAF1', 'latin1');
const FORM: FrameForm = { magic: MAGIC, payloadBytesMax: AUDIT_FRAME_BYTES_MAX };
const NEWLINE = 0x0a;

/** One frame. The records' bytes are kept as they are. */
export function encodeFrame(records: readonly Buffer[]): Buffer {
  assert(records.length > 0, 'a frame has at least one record');
  const length = records.reduce((sum, record) => sum + record.length + 1, -1);
  assert(length <= AUDIT_FRAME_BYTES_MAX, `a frame of ${length} bytes exceeds ${AUDIT_FRAME_BYTES_MAX}`);
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + length);
  let at = FRAME_HEADER_BYTES;
  for (const record of records) {
    if (at > FRAME_HEADER_BYTES) at = frame.writeUInt8(NEWLINE, at);
    at += record.copy(frame, at);
  }
  MAGIC.copy(frame, 0);
  frame.writeUInt32LE(length, 4);
  frame.writeUInt32LE(crc32(frame.subarray(FRAME_HEADER_BYTES)), 8);
  return frame;
}

/** The payload of the frame that begins at `at`, or null when there is no whole, undamaged frame. */
export function payloadAt(bytes: Buffer, at: number): Buffer | null {
  const body = at + FRAME_HEADER_BYTES;
  if (body > bytes.length || bytes.compare(MAGIC, 0, 4, at, at + 4) !== 0) return null;
  const length = bytes.readUInt32LE(at + 4);
  if (length === 0 || length > AUDIT_FRAME_BYTES_MAX || body + length > bytes.length) return null;
  const payload = bytes.subarray(body, body + length);
  return crc32(payload) === bytes.readUInt32LE(at + 8) ? payload : null;
}

/** The payload that holds the records of all these, in order. */
export function joinPayloads(payloads: readonly Buffer[]): Buffer {
  if (payloads.length === 1) return payloads[0] as Buffer;
  const separator = Buffer.of(NEWLINE);
  return Buffer.concat(payloads.flatMap((payload, i) => (i === 0 ? [payload] : [separator, payload])));
}

/** The exact bytes of each record in a payload. */
export function recordsOf(payload: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at <= payload.length; ) {
    const newline = payload.indexOf(NEWLINE, at);
    const end = newline < 0 ? payload.length : newline;
    records.push(payload.subarray(at, end));
    at = end + 1;
  }
  return records;
}

/**
 * clean: whole frames to the end. torn: after goodBytes comes what can be the one write that a crash interrupted.
 * altered: the last frame is there and has changed. damaged: after the bad place at goodBytes there is another whole frame, so bytes
 * that were safe have changed.
 */
export type Scan = { verdict: 'clean' | 'torn' | 'altered' | 'damaged'; payloads: Buffer[]; goodBytes: number };

/** Reads a segment from its first byte. At most one frame is ever on its way to the disk, so only the last can be torn. */
export function scanFrames(bytes: Buffer): Scan {
  const payloads: Buffer[] = [];
  let at = 0;
  while (at < bytes.length) {
    const payload = payloadAt(bytes, at);
    if (payload === null) {
      const verdict = isTornWrite(bytes, at, FORM) ? 'torn' : 'altered';
      return { verdict: hasFrameAfter(bytes, at + 1) ? 'damaged' : verdict, payloads, goodBytes: at };
    }
    payloads.push(payload);
    at += FRAME_HEADER_BYTES + payload.length;
  }
  return { verdict: 'clean', payloads, goodBytes: at };
}

function hasFrameAfter(bytes: Buffer, from: number): boolean {
  for (let at = bytes.indexOf(MAGIC, from); at >= 0; at = bytes.indexOf(MAGIC, at + 1)) {
    if (payloadAt(bytes, at) !== null) return true;
  }
  return false;
}
