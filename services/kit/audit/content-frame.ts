// Content as it lies in a segment of the content store, and how it is found again.
// A reference is <UTC day>-<segment>-<offset>-<id>, each but the day random or a place, and none says anything of the content.
// Frame: magic "QCS1", u32 length of the sealed bytes, u32 CRC-32 of id and sealed bytes (little-endian), id (8 bytes), sealed
// bytes. Sealed are: kind (1 byte), 1 when it was cut (1 byte), UTF-8 bytes of the whole (u48), text.
import { crc32 } from 'node:zlib';
import { assert } from '#kit/assert.ts';
import { CONTENT_BYTES_MAX } from './limits.ts';
import type { SegmentFiles } from './segment-files.ts';
import { CONTENT_SEAL_BYTES, type Vault } from './vault.ts';

export type ContentKind = 'prompt' | 'response';

export type Content = {
  kind: ContentKind;
  /** Redacted. */
  text: string;
  /** More came than the tenant's policy keeps. */
  cut: boolean;
  /** UTF-8 bytes of the whole, before redaction. */
  bytes: number;
};

/** Where content lies. */
export type ContentPlace = { segment: string; offset: number; id: string };

/** aged: its segment was deleted. erased: the person was. damaged: the bytes are not those that were sealed for this reference. */
export type ContentRead = ({ state: 'ok' } & Content) | { state: 'aged' | 'erased' | 'damaged' };

const KINDS = ['prompt', 'response'] as const satisfies readonly ContentKind[];
const MAGIC = Buffer.from('QCS1', 'latin1');
const ID_BYTES = 8;
const HEADER_BYTES = 12 + ID_BYTES;
const PLAIN_HEADER_BYTES = 8;
const SEALED_BYTES_MAX = PLAIN_HEADER_BYTES + CONTENT_BYTES_MAX + CONTENT_SEAL_BYTES;
const SEGMENT = /^(\d{8}-[0-9a-f]{8})\.content$/;
const REFERENCE = /^(\d{8}-[0-9a-f]{8})-([0-9a-f]{1,8})-([0-9a-f]{16})$/;

/** The file of a segment. */
export const segmentFile = (segment: string): string => `${segment}.content`;

/** The segment of a file, or null: it is no segment. */
export const segmentOf = (file: string): string | null => SEGMENT.exec(file)?.[1] ?? null;

/** YYYYMMDD, UTC. */
export const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10).replaceAll('-', '');

export const referenceOf = ({ segment, offset, id }: ContentPlace): string => `${segment}-${offset.toString(16)}-${id}`;

/** Null: it is no reference of ours. */
export function parseReference(reference: string): ContentPlace | null {
  const [, segment, offset = '', id] = REFERENCE.exec(reference) ?? [];
  return segment === undefined || id === undefined ? null : { segment, offset: Number.parseInt(offset, 16), id };
}

export function encodeContent({ kind, text, cut, bytes }: Content): Buffer {
  const header = Buffer.alloc(PLAIN_HEADER_BYTES);
  header.writeUInt8(KINDS.indexOf(kind), 0);
  header.writeUInt8(cut ? 1 : 0, 1);
  header.writeUIntLE(bytes, 2, 6);
  return Buffer.concat([header, Buffer.from(text, 'utf8')]);
}

function decodeContent(plain: Buffer): Content | null {
  const kind = plain.length < PLAIN_HEADER_BYTES ? undefined : KINDS[plain.readUInt8(0)];
  if (kind === undefined) return null;
  const text = plain.toString('utf8', PLAIN_HEADER_BYTES);
  return { kind, text, cut: plain.readUInt8(1) === 1, bytes: plain.readUIntLE(2, 6) };
}

/** Bytes that content takes in a segment. */
export const frameBytes = (plain: Buffer): number => HEADER_BYTES + plain.length + CONTENT_SEAL_BYTES;

export function encodeContentFrame(id: string, sealed: Buffer): Buffer {
  assert(sealed.length <= SEALED_BYTES_MAX, `content of ${sealed.length} bytes exceeds ${SEALED_BYTES_MAX}`);
  const frame = Buffer.concat([Buffer.alloc(HEADER_BYTES), sealed]);
  MAGIC.copy(frame, 0);
  frame.writeUInt32LE(sealed.length, 4);
  frame.write(id, 12, 'hex');
  frame.writeUInt32LE(crc32(frame.subarray(12)), 8);
  return frame;
}

/** The sealed bytes of a reference, or null: there are no whole, undamaged ones of this id. */
async function sealedAt(files: SegmentFiles, { segment, offset, id }: ContentPlace): Promise<Buffer | null> {
  const header = await files.readRange(segmentFile(segment), offset, HEADER_BYTES);
  if (header.length < HEADER_BYTES || !header.subarray(0, 4).equals(MAGIC)) return null;
  const length = header.readUInt32LE(4);
  if (length > SEALED_BYTES_MAX || header.toString('hex', 12) !== id) return null;
  const sealed = await files.readRange(segmentFile(segment), offset + HEADER_BYTES, length);
  const crc = crc32(sealed, crc32(header.subarray(12)));
  return sealed.length === length && crc === header.readUInt32LE(8) ? sealed : null;
}

/** What a record's `content_ref` leads to. `tenant` and `subject` are the record's `tenant` and `actor.ref`. */
export async function readContent(
  files: SegmentFiles,
  vault: Vault,
  { tenant, subject, reference }: { tenant: string; subject: string; reference: string },
): Promise<ContentRead> {
  const place = parseReference(reference);
  if (!place) return { state: 'damaged' };
  if (vault.reveal(tenant, subject) === null) return { state: 'erased' };
  let sealed: Buffer | null;
  try {
    sealed = await sealedAt(files, place);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { state: 'aged' };
    throw error;
  }
  const plain = sealed && vault.openContent(tenant, subject, sealed, reference);
  const content = plain && decodeContent(plain);
  return content ? { state: 'ok', ...content } : { state: 'damaged' };
}
