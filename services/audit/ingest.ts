// Which records of a message are new, and whether each producer's chain goes on: the ledger stores every new record, also one
// that should not be there, and what is wrong with it is an alarm, never a reason to leave it out.
import { recordsOf } from '#kit/audit/frame.ts';
import { NO_RECORD_SHA256, sha256Hex } from '#kit/audit/record.ts';
import { type ChainHead, readRecord } from './projection.ts';

/**
 * gap: records before this one never came. forked: it does not follow the record that came before it, or another record
 * has its place. unreadable: the bytes are no record.
 */
export type Alarm =
  | { kind: 'gap'; producer: string; expectedSeq: number; seq: number }
  | { kind: 'forked'; producer: string; seq: number; id: string }
  | { kind: 'unreadable'; sha256: string };

export type Taken = { fresh: Buffer[]; duplicates: number; alarms: Alarm[] };

/** What is stored already. */
export type KnownRecords = {
  chainHead(producer: string): ChainHead | null;
  hasRecord(id: string): boolean;
  /** Up to which number a producer's records are past their retention and not known one by one any more. */
  agedSeq(producer: string): number;
};

/** Follows the chains of all producers. One instance sees every message, in stream order. */
export class ChainFollower {
  readonly #known: KnownRecords;
  readonly #heads = new Map<string, ChainHead>();
  /** Ids taken since the last commit: not in the view yet. */
  readonly #uncommitted = new Set<string>();

  constructor(known: KnownRecords) {
    this.#known = known;
  }

  /** Sorts out one message's payload. `isAgain`: the stream gave this message before, so unreadable bytes are stored already. */
  take(payload: Buffer, options: { isAgain: boolean }): Taken {
    const taken: Taken = { fresh: [], duplicates: 0, alarms: [] };
    for (const bytes of recordsOf(payload)) this.#takeOne(bytes, options.isAgain, taken);
    return taken;
  }

  /** What was taken is stored and in the view. */
  committed(): void {
    this.#uncommitted.clear();
  }

  #takeOne(bytes: Buffer, isAgain: boolean, taken: Taken): void {
    const record = readRecord(bytes);
    if (!record) {
      if (isAgain) taken.duplicates += 1;
      else {
        taken.fresh.push(bytes);
        taken.alarms.push({ kind: 'unreadable', sha256: sha256Hex(bytes) });
      }
      return;
    }
    const { producer, seq, id, prev } = record;
    const head = this.#head(producer);
    if (seq <= head.seq && this.#isKnown(producer, seq, id)) {
      taken.duplicates += 1;
      return;
    }
    taken.fresh.push(bytes);
    this.#uncommitted.add(id);
    if (seq <= head.seq) {
      taken.alarms.push({ kind: 'forked', producer, seq, id });
      return; // the chain goes on from where it was
    }
    if (seq > head.seq + 1) taken.alarms.push({ kind: 'gap', producer, expectedSeq: head.seq + 1, seq });
    else if (prev !== head.sha256) taken.alarms.push({ kind: 'forked', producer, seq, id });
    this.#heads.set(producer, { seq, sha256: sha256Hex(bytes) });
  }

  #isKnown(producer: string, seq: number, id: string): boolean {
    return this.#uncommitted.has(id) || this.#known.hasRecord(id) || seq <= this.#known.agedSeq(producer);
  }

  #head(producer: string): ChainHead {
    let head = this.#heads.get(producer);
    if (!head) {
      head = this.#known.chainHead(producer) ?? { seq: 0, sha256: NO_RECORD_SHA256 };
      this.#heads.set(producer, head);
    }
    return head;
  }
}
