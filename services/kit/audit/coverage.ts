// What an outbox may let go of: the records that a checkpoint covers which this producer has checked itself. It keeps the last
// checkpoint that it saw, so that a log that was cut, rewritten or shown differently to others is found out here.
import { setTimeout as sleep } from 'node:timers/promises';
import type { GetCoverageResponse } from '#gen/quern/audit/v1/audit.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { type Checkpoint, type NoteVerifier, openCheckpoint, parseVerifierKey } from './checkpoint.ts';
import { COVERAGE_EVERY_MS } from './limits.ts';
import { leafHash, verifyConsistency, verifyInclusion } from './merkle.ts';
import type { Outbox } from './outbox.ts';
import type { SegmentFiles } from './segment-files.ts';

/**
 * bad_signature: not signed by the key that is known here. shrunk: smaller than what was seen. forked: not a continuation of
 * what was seen. not_included: our record is not where the log says. foreign: it has records that were never written here.
 */
export const COVERAGE_ALARMS = ['bad_signature', 'shrunk', 'forked', 'not_included', 'foreign'] as const;
export type CoverageAlarm = (typeof COVERAGE_ALARMS)[number];

/** A checkpoint as it is kept: the note, and the key by which it was checked. */
export type SeenCheckpoint = { verifierKey: string; note: string };

export type CoverageVerdict =
  | { ok: true; seen: SeenCheckpoint | null; size: number; coveredSeq: number }
  | { ok: false; alarm: CoverageAlarm; message: string };

/** What the producer itself has. */
export type OwnRecords = Pick<Outbox, 'durableSeq' | 'recordAt'>;

const alarmed = (alarm: CoverageAlarm, message: string): CoverageVerdict => ({ ok: false, alarm, message });

function opened(note: string, key: string): { checkpoint: Checkpoint; verifier: NoteVerifier } {
  const verifier = parseVerifierKey(key);
  return { checkpoint: openCheckpoint(note, verifier.name, [verifier]), verifier };
}

/** Whether the log with this checkpoint is what was seen before, or went on from it. */
function continued(seen: Checkpoint, now: Checkpoint, proof: readonly Buffer[]): CoverageVerdict | null {
  if (now.size < seen.size) {
    return alarmed('shrunk', `the log has ${now.size} records now, ${seen.size} were signed before`);
  }
  const trees = { first: seen.size, firstRoot: seen.root, second: now.size, secondRoot: now.root };
  if (verifyConsistency({ ...trees, proof })) return null;
  return alarmed(
    'forked',
    `the log of ${now.size} records does not begin with the ${seen.size} that were signed before`,
  );
}

/**
 * Checks an answer against what was seen before and what was written here. `pinned`: the key that counts; without it the key
 * of the last checkpoint, and of the first answer when there is none.
 */
export async function checkCoverage(
  answer: GetCoverageResponse,
  known: { pinned: string | null; seen: SeenCheckpoint | null; own: OwnRecords },
): Promise<CoverageVerdict> {
  const { pinned, seen, own } = known;
  const before = seen && opened(seen.note, seen.verifierKey).checkpoint;
  if (answer.checkpoint === '') {
    if (before)
      return alarmed('shrunk', `the log has no checkpoint now, one of ${before.size} records was signed before`);
    return { ok: true, seen: null, size: 0, coveredSeq: 0 };
  }
  const verifierKey = pinned ?? seen?.verifierKey ?? answer.verifierKey;
  let checkpoint: Checkpoint;
  try {
    checkpoint = opened(answer.checkpoint, verifierKey).checkpoint;
  } catch (error) {
    return alarmed('bad_signature', `${(error as Error).message}; if the key was changed on purpose, pin the new one`);
  }
  const broken = before && continued(before, checkpoint, answer.consistency);
  if (broken) return broken;
  const now = { verifierKey, note: answer.checkpoint };
  const coveredSeq = Number(answer.seq);
  if (coveredSeq > own.durableSeq) {
    const message = `the log has record ${coveredSeq} of this producer, which wrote only ${own.durableSeq}`;
    return alarmed('foreign', message);
  }
  const bytes = coveredSeq === 0 ? null : await own.recordAt(coveredSeq);
  if (bytes === null) return { ok: true, seen: now, size: checkpoint.size, coveredSeq: 0 }; // nothing kept to let go of
  const { size, root } = checkpoint;
  const leaf = leafHash(bytes);
  const index = Number(answer.index);
  if (!leaf.equals(answer.leaf) || !verifyInclusion({ leaf, index, size, root, proof: answer.inclusion })) {
    return alarmed('not_included', `record ${coveredSeq} is not at place ${index} of the log as it was written here`);
  }
  return { ok: true, seen: now, size, coveredSeq };
}

const FILE = 'coverage.json';

async function readSeen(files: SegmentFiles): Promise<SeenCheckpoint | null> {
  const bytes = await files.read(FILE);
  if (bytes === null) return null;
  try {
    const { verifier_key: verifierKey, note } = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
    if (typeof verifierKey === 'string' && typeof note === 'string') {
      opened(note, verifierKey);
      return { verifierKey, note };
    }
  } catch {
    // told below
  }
  const message = `audit outbox: ${FILE} is not readable; keep it, and remove it only when the log was verified otherwise`;
  throw new QuernError('DATA_LOSS', message, { reason: 'AUDIT_COVERAGE_DAMAGED' });
}

/** Asks the audit service; `oldTreeSize` is that of the checkpoint that is kept here, 0 for none. */
export type AskCoverage = (
  request: { producer: string; oldTreeSize: bigint },
  options: { signal: AbortSignal },
) => Promise<GetCoverageResponse>;

export type CoverageOptions = {
  outbox: Outbox;
  /** Of the outbox's folder. */
  files: SegmentFiles;
  ask: AskCoverage;
  /** The verifier key line that counts; null: the first one seen is kept. */
  pinned: string | null;
  log: Log;
  /** Called before records up to a number are let go. */
  beforeRelease?: (coveredSeq: number) => Promise<void>;
  everyMs?: number;
};

/** waiting: not asked yet. unreachable: no answer. alarm: the last answer was wrong; nothing is let go. */
export const COVERAGE_STATES = ['waiting', 'ok', 'unreachable', 'alarm'] as const;
export type CoverageState = (typeof COVERAGE_STATES)[number];

export type CoverageStats = {
  state: CoverageState;
  /** Why it waits, or what is wrong; "" for ok. */
  reason: string;
  /** Records of the newest checkpoint that was checked. */
  size: number;
  coveredSeq: number;
  /** Wrong answers by kind, since the start. */
  alarms: ReadonlyMap<CoverageAlarm, number>;
};

/** Invariant: nothing is released but what a checked checkpoint covers; an answer that is wrong releases nothing. */
export class Coverage {
  readonly #options: CoverageOptions;
  readonly #stop = new AbortController();
  readonly #alarms = new Map<CoverageAlarm, number>();
  #seen: SeenCheckpoint | null;
  #stats: Omit<CoverageStats, 'alarms'>;
  #loop: Promise<void> | null = null;

  private constructor(options: CoverageOptions, seen: SeenCheckpoint | null) {
    this.#options = options;
    this.#seen = seen;
    const size = seen ? opened(seen.note, seen.verifierKey).checkpoint.size : 0;
    this.#stats = { state: 'waiting', reason: 'not asked yet', size, coveredSeq: 0 };
  }

  /** Throws DATA_LOSS when the kept checkpoint is not readable, INVALID_ARGUMENT for a pinned key that is none. */
  static async open(options: CoverageOptions): Promise<Coverage> {
    if (options.pinned !== null) parseVerifierKey(options.pinned);
    return new Coverage(options, await readSeen(options.files));
  }

  get stats(): CoverageStats {
    return { ...this.#stats, alarms: this.#alarms };
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort(new QuernError('CANCELLED', 'the outbox is closing'));
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { everyMs = COVERAGE_EVERY_MS } = this.#options;
    while (!signal.aborted) {
      await this.look().catch((error: unknown) => this.#waits(error));
      await sleep(everyMs * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => {});
    }
  }

  #waits(thrown: unknown): void {
    if (this.#stop.signal.aborted) return;
    const error = toQuernError(thrown);
    if (this.#stats.state !== 'unreachable' || error.message !== this.#stats.reason) {
      this.#options.log.warn({ err: error }, 'the coverage of the audit outbox cannot be asked for; its segments stay');
    }
    if (this.#stats.state !== 'alarm') this.#stats = { ...this.#stats, state: 'unreachable', reason: error.message };
  }

  /** Asks once, checks, and lets go of what is covered. Throws when there is no answer, or a file cannot be written. */
  async look(): Promise<CoverageVerdict> {
    const { outbox, ask, pinned, files, beforeRelease } = this.#options;
    const seen = this.#seen;
    const oldTreeSize = BigInt(this.#stats.size);
    const answer = await ask({ producer: outbox.producer, oldTreeSize }, { signal: this.#stop.signal });
    const verdict = await checkCoverage(answer, { pinned, seen, own: outbox });
    if (!verdict.ok) {
      this.#alarm(verdict.alarm, verdict.message);
      return verdict;
    }
    if (verdict.seen && verdict.seen.note !== seen?.note) {
      const kept = { v: 1, verifier_key: verdict.seen.verifierKey, note: verdict.seen.note };
      await files.replace(FILE, Buffer.from(`${JSON.stringify(kept)}\n`));
      this.#seen = verdict.seen;
    }
    const { size, coveredSeq } = verdict;
    this.#stats = { state: 'ok', reason: '', size, coveredSeq: Math.max(coveredSeq, this.#stats.coveredSeq) };
    if (coveredSeq > 0) await outbox.release(coveredSeq, beforeRelease);
    return verdict;
  }

  #alarm(alarm: CoverageAlarm, message: string): void {
    this.#alarms.set(alarm, (this.#alarms.get(alarm) ?? 0) + 1);
    if (this.#stats.state !== 'alarm' || this.#stats.reason !== message) {
      const { producer } = this.#options.outbox;
      this.#options.log.error(
        { alarm, reason: message, producer },
        'THE AUDIT LOG IS NOT WHAT IT WAS: nothing is let go',
      );
    }
    this.#stats = { ...this.#stats, state: 'alarm', reason: message };
  }
}
