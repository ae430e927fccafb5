// An entry of the journal of calls as it lies in a file: u32 length, u32 CRC-32 (little-endian), JSON.
import { crc32 } from 'node:zlib';
import { QuernError } from '#kit/errors.ts';
import { JOURNAL_ENTRY_BYTES_MAX } from './limits.ts';

/** What is known of a call before it runs; all that its end needs after a crash. */
export type CallFacts = {
  /** ULID. */
  executionId: string;
  tenant: string;
  /** Hex digest of tenant and user: who may ask how it ended. */
  owner: string;
  /** Pseudonym of the user in the audit log; "" without one. */
  actorRef: string;
  callId: string;
  /** Tenant, user and idempotency key as one hex digest; "" = no key. */
  key: string;
  /** Hex SHA-256 of what the key stands for: tool, arguments, stdin, session. */
  requestSha: string;
  tool: string;
  toolSha: string;
  requestId: string;
  traceId: string;
};

/** The kept result of a call with a key; null: nobody can ask for it, or it had to go while the key and the outcome stay. */
export type CallEnd = { outcome: string; result: string | null };

export type Entry =
  | { t: 'begin'; at: number; facts: CallFacts }
  /**
   * `since`: when the key began to mean this call. `facts`: null without a key; with one the beginning is not needed any more.
   * `ran`: false when nothing of the call began, so that its key is free again.
   */
  | { t: 'end'; at: number; since: number; id: string; facts: CallFacts | null; end: CallEnd; ran?: false };

export type Place = { segment: string; at: number; length: number };

const HEADER_BYTES = 8;

export function damaged(name: string, at: number): QuernError {
  const message = `the journal of calls is damaged: ${name} at byte ${at}; move the file away to go on without what it held`;
  return new QuernError('DATA_LOSS', message, { reason: 'TOOL_JOURNAL_DAMAGED' });
}

export function encode(entry: Entry): Buffer {
  const payload = Buffer.from(JSON.stringify(entry), 'utf8');
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(payload.length, 0);
  bytes.writeUInt32LE(crc32(payload), 4);
  payload.copy(bytes, HEADER_BYTES);
  return bytes;
}

/** The entry at a place, or null when there is no whole one. */
export function entryAt(bytes: Buffer, at: number): { entry: Entry; length: number } | null {
  if (at + HEADER_BYTES > bytes.length) return null;
  const length = bytes.readUInt32LE(at);
  if (length === 0 || length > JOURNAL_ENTRY_BYTES_MAX || at + HEADER_BYTES + length > bytes.length) return null;
  const payload = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
  if (crc32(payload) !== bytes.readUInt32LE(at + 4)) return null;
  return { entry: JSON.parse(payload.toString('utf8')) as Entry, length: HEADER_BYTES + length };
}
