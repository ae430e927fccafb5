// What is past its time goes: whole segments of the ledger and the rows made of them. Leaf hashes and checkpoints stay, so that
// proofs and the verification of the whole log work as before.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { sha256Hex } from '#kit/audit/record.ts';
import type { ChainHead } from '#kit/audit/verify.ts';
import type { Ledger } from './ledger.ts';
import { RECORD_FUTURE_MS } from './limits.ts';
import { type Projection, readRecord } from './projection.ts';

/** The records before `index` are past their time; `heads`: where the chains stand behind them. */
type Aged = { index: number; heads: Map<string, ChainHead> };

/** RFC 3339, as records have it: what is before `before` is old; a time after `horizon` says nothing. */
type Times = { before: string; horizon: string };

/** By the first record from `index` on whose time says something. */
async function isOlder(ledger: Ledger, index: number, { before, horizon }: Times): Promise<boolean> {
  for await (const { bytes } of ledger.read(index)) {
    const record = readRecord(bytes);
    if (record === null || record.ts < before) return true;
    if (record.ts <= horizon) return false;
  }
  return false;
}

/**
 * The segments, oldest first, of which every record is older than `before`; never the newest. Records of a clock that was
 * ahead go with those around them.
 */
async function agedSegments(ledger: Ledger, times: Times): Promise<Aged> {
  const { before, horizon } = times;
  const starts = ledger.segmentStarts;
  const heads = new Map(ledger.agedHeads);
  let index = ledger.firstIndex;
  for (const end of starts.slice(1)) {
    // A look at one record saves reading a segment that has time left.
    if (!(await isOlder(ledger, end, times))) break;
    const next = new Map(heads);
    let isOld = true;
    for await (const entry of ledger.read(index)) {
      if (entry.index >= end) break;
      const record = readRecord(entry.bytes);
      if (!record) continue;
      isOld &&= record.ts < before || record.ts > horizon;
      const { producer, seq } = record;
      if (seq > (next.get(producer)?.seq ?? 0)) next.set(producer, { seq, sha256: sha256Hex(entry.bytes) });
    }
    if (!isOld) break;
    for (const [producer, head] of next) heads.set(producer, head);
    index = end;
  }
  return { index, heads };
}

/** `now`: the time that counts, by which a record can be known to be from the future. */
export type AgeOptions = { before: Date; now: Date };

/** Lets go of what is older than `before`; answers the number of segments that went. */
export async function ageOut(ledger: Ledger, projection: Projection, { before, now }: AgeOptions): Promise<number> {
  const horizon = new Date(now.getTime() + RECORD_FUTURE_MS);
  const times = { before: before.toISOString(), horizon: horizon.toISOString() };
  const { index, heads } = await agedSegments(ledger, times);
  const dropped = index > ledger.firstIndex ? await ledger.dropBefore(index, heads) : 0;
  while (projection.prune(ledger.firstIndex)) await nextTurn(); // also what an earlier run left
  return dropped;
}
