// The time by which records age. The wall clock alone does not decide: one wrong step ahead would age the whole ledger out. What
// passes while the process runs is known from the monotonic clock; a wall clock that is further on than that is believed only
// when it has stood by it for a day of running. A step back is believed at once, for then less goes.
import type { SegmentFiles } from '#kit/audit/segment-files.ts';
import type { Log } from '#kit/log.ts';
import { RETENTION_JUMP_MS, RETENTION_TRUST_MS } from './limits.ts';

/** `believedMs`: Unix time. `aheadRunMs`: how long the wall clock has been ahead of it, counting only while the process ran. */
export type RetentionClockState = { believedMs: number; aheadRunMs: number };

export type RetentionClockOptions = {
  files: Pick<SegmentFiles, 'read' | 'replace'>;
  log: Log;
  /** RFC 3339, the newest time that the log itself knows: what counts when no time is kept. Null: the wall clock. */
  newestTs: string | null;
  /** Wall and monotonic clock, milliseconds. */
  now?: () => number;
  monotonicMs?: () => number;
};

const FILE = 'retention-clock.json';

function stateIn(bytes: Buffer | null): RetentionClockState | null {
  try {
    const { believedMs, aheadRunMs } = JSON.parse(String(bytes)) as Partial<RetentionClockState>;
    return Number.isFinite(believedMs) && Number.isFinite(aheadRunMs)
      ? { believedMs: believedMs as number, aheadRunMs: aheadRunMs as number }
      : null;
  } catch {
    return null; // lost: the log's newest time counts
  }
}

/** Invariant: between two looks it goes on by what the monotonic clock says, and RETENTION_JUMP_MS at most beside that. */
export class RetentionClock {
  readonly #files: Pick<SegmentFiles, 'read' | 'replace'>;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #monotonicMs: () => number;
  #state: RetentionClockState;
  #lookedMs: number;

  private constructor(options: RetentionClockOptions, state: RetentionClockState) {
    this.#files = options.files;
    this.#log = options.log;
    this.#now = options.now ?? Date.now;
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now());
    this.#state = state;
    this.#lookedMs = this.#monotonicMs();
  }

  static async open(options: RetentionClockOptions): Promise<RetentionClock> {
    const nowMs = (options.now ?? Date.now)();
    const newestMs = options.newestTs === null ? nowMs : Date.parse(options.newestTs);
    const kept = stateIn(await options.files.read(FILE));
    return new RetentionClock(options, kept ?? { believedMs: Math.min(nowMs, newestMs), aheadRunMs: 0 });
  }

  /** How far the wall clock is ahead of the time that counts; 0 when it is believed. */
  get aheadMs(): number {
    return this.#state.aheadRunMs === 0 ? 0 : Math.max(0, this.#now() - this.#state.believedMs);
  }

  /** The time that counts now. What it is and why is on disk when this resolves, so that a restart is no way around it. */
  async look(): Promise<Date> {
    const [nowMs, monotonicMs] = [this.#now(), this.#monotonicMs()];
    const passedMs = Math.max(0, monotonicMs - this.#lookedMs);
    this.#lookedMs = monotonicMs;
    this.#state = this.#next(nowMs, passedMs);
    await this.#files.replace(FILE, Buffer.from(`${JSON.stringify(this.#state)}\n`));
    return new Date(this.#state.believedMs);
  }

  #next(nowMs: number, passedMs: number): RetentionClockState {
    const expectedMs = this.#state.believedMs + passedMs;
    if (nowMs <= expectedMs + RETENTION_JUMP_MS) return { believedMs: nowMs, aheadRunMs: 0 };
    const aheadMs = Math.round(nowMs - expectedMs);
    // At least 1: that it is ahead is known from the first look on.
    const aheadRunMs = Math.max(1, this.#state.aheadRunMs + (this.#state.aheadRunMs === 0 ? 0 : passedMs));
    if (aheadRunMs >= RETENTION_TRUST_MS) {
      this.#log.warn({ aheadMs }, 'the clock has stood ahead for a day: from now on records age by it');
      return { believedMs: nowMs, aheadRunMs: 0 };
    }
    if (this.#state.aheadRunMs === 0) {
      const message =
        'the clock is ahead of what the audit log knows, by a step or because the service was away: for a day of running ' +
        'records age by the time before; if the clock is wrong, set it right within that day';
      this.#log.warn({ aheadMs }, message);
    }
    return { believedMs: expectedMs, aheadRunMs };
  }
}
