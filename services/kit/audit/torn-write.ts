// Tells a write that a crash interrupted from one that was changed later. What a crash can leave of bytes that were written behind the
// end of a file, and not yet synced: the file ends anywhere among them, and of what is there each sector of the disk holds what was
// written, or still zeros. Everything else was whole once. (etcd reads its log by the same rule.)
import { crc32 } from 'node:zlib';

const SECTOR_BYTES = 512;

/** Frames: magic, u32 length of the payload, u32 CRC-32 of it (little-endian), payload. */
export type FrameForm = { magic: Buffer; payloadBytesMax: number };

const LENGTH_AT = 4;
const CRC_AT = 8;
const HEADER_BYTES = 12;

const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

/** The part of each sector of the file that lies in [from, end). */
function* sectorsOf(bytes: Buffer, from: number, end: number): Generator<Buffer> {
  for (let at = from; at < end; ) {
    const next = Math.min(end, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    yield bytes.subarray(at, next);
    at = next;
  }
}

/**
 * Whether a crash alone can have made what lies behind the last whole frame, which ends at `at`. `bytes`: of the whole file. A frame
 * of which all is there and that is not the one its checksum speaks of was changed, unless a sector of it is still zeros.
 */
export function isTornWrite(bytes: Buffer, at: number, { magic, payloadBytesMax }: FrameForm): boolean {
  const body = at + HEADER_BYTES;
  const header = [...sectorsOf(bytes, at, Math.min(bytes.length, body + SECTOR_BYTES))].slice(0, 2);
  const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = header;
  const isSplit = first.length < HEADER_BYTES;
  if (isZero(first) || (isSplit && second.length > 0 && isZero(second))) return bytes.length <= body + payloadBytesMax;
  const found = bytes.subarray(at, at + magic.length);
  if (!found.equals(magic.subarray(0, found.length))) return false;
  if (bytes.length < body) return true;
  const length = bytes.readUInt32LE(at + LENGTH_AT);
  if (length === 0 || length > payloadBytesMax) return false;
  const end = body + length;
  // All that is there is what the checksum speaks of: then it is the length that was changed.
  if (bytes.length < end) return crc32(bytes.subarray(body)) !== bytes.readUInt32LE(at + CRC_AT);
  if (!isZero(bytes.subarray(end))) return false;
  return [...sectorsOf(bytes, at, end)].some(isZero);
}
