// A small log of two producers, its checkpoints and its subtrees, as a verifier meets them.
import { newSigningKey, signCheckpoint, signerOf } from '#kit/audit/checkpoint.ts';
import { leafHash, MerkleFrontier } from '#kit/audit/merkle.ts';
import { type AuditRecord, NO_RECORD_SHA256, placeOf, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import type { ChainHead } from '#kit/audit/verify.ts';

export const ORIGIN = 'quern.test/audit';
export const signer = signerOf(ORIGIN, newSigningKey());

/** Records 0, 1, 3, 4, 6 … are of "a", the others of "b"; `over` changes single ones before they are chained. */
export function makeLog(count: number, over: (index: number) => Partial<AuditRecord> = () => ({})): Buffer[] {
  const heads = new Map<string, ChainHead>();
  return Array.from({ length: count }, (_, i) => {
    const producer = i % 3 === 2 ? 'b' : 'a';
    const head = heads.get(producer) ?? { seq: 0, sha256: NO_RECORD_SHA256 };
    const bytes = recordBytes({
      v: 1,
      id: `${producer}-${head.seq + 1}`,
      ts: '2026-01-01T00:00:00.000Z',
      mono_ns: '1',
      producer,
      epoch: 1,
      seq: head.seq + 1,
      prev: head.sha256,
      tenant: 't',
      actor: { kind: 'user', ref: 'ada' },
      action: 'request.accepted',
      outcome: 'ok',
      ...over(i),
    });
    heads.set(producer, { seq: head.seq + 1, sha256: sha256Hex(bytes) });
    return bytes;
  });
}

export function noteAt(log: readonly Buffer[], size: number, by = signer): string {
  const frontier = new MerkleFrontier();
  for (const bytes of log.slice(0, size)) frontier.append(leafHash(bytes));
  return signCheckpoint({ origin: ORIGIN, size, root: frontier.root() }, by);
}

/** Where the chains stand before record `index`. */
export function chainsBefore(log: readonly Buffer[], index: number): Map<string, ChainHead> {
  const heads = new Map<string, ChainHead>();
  for (const bytes of log.slice(0, index)) {
    const { producer, seq } = placeOf(bytes);
    heads.set(producer, { seq, sha256: sha256Hex(bytes) });
  }
  return heads;
}

/** The roots of the perfect subtrees of a log. */
export function subtreeHashes(log: readonly Buffer[]): (subtree: { level: number; index: number }) => Buffer {
  const known = new Map<string, Buffer>();
  const frontier = new MerkleFrontier();
  for (const bytes of log) frontier.append(leafHash(bytes), (level, at, hash) => known.set(`${level}/${at}`, hash));
  return ({ level, index }) => known.get(`${level}/${index}`)!;
}
