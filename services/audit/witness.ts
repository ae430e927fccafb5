// A witness: a file outside the service's reach that gets every signed note. It may lie on a mount that fails or never
// answers, so that nobody who signs waits for it, and a process of its own writes to it.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '#kit/log.ts';
import { WITNESS_CLOSE_MS, WITNESS_LATE_MS, WITNESS_NOTES_MAX } from './limits.ts';
import { WitnessProcess } from './witness-process.ts';

export type WitnessOptions = {
  path: string;
  log: Log;
  notesMax?: number;
  lateMs?: number;
  closeMs?: number;
};

/** late: an append has not returned for long. failed: the last one did not succeed; it is tried again with the next note. */
export const WITNESS_STATES = ['ok', 'late', 'failed'] as const;
export type WitnessState = {
  path: string;
  state: (typeof WITNESS_STATES)[number];
  /** Notes that it does not have yet. */
  waitingNotes: number;
  /** Notes that it will never have: more waited than are kept. */
  lostNotes: number;
};

/** Invariant: one append at a time, notes in order. */
export class Witness {
  readonly #options: WitnessOptions;
  /** Not being written; the oldest first. */
  readonly #waiting: string[] = [];
  /** Being written. */
  #sent: string[] = [];
  #writing: Promise<void> | null = null;
  #isLate = false;
  #hasFailed = false;
  #lostNotes = 0;
  readonly #process: WitnessProcess;

  constructor(options: WitnessOptions) {
    this.#options = options;
    this.#process = new WitnessProcess(options.path);
  }

  get state(): WitnessState {
    const state = this.#isLate ? 'late' : this.#hasFailed ? 'failed' : 'ok';
    const waitingNotes = this.#sent.length + this.#waiting.length;
    return { path: this.#options.path, state, waitingNotes, lostNotes: this.#lostNotes };
  }

  /** Takes a line and returns at once. */
  add(line: string): void {
    this.#waiting.push(line);
    this.#bound();
    this.#writing ??= this.#write();
  }

  /** Waits for what is being written, but not for ever. */
  async close(): Promise<void> {
    const { path, log, closeMs = WITNESS_CLOSE_MS } = this.#options;
    if (this.#waiting.length > 0) this.#writing ??= this.#write();
    const written = new AbortController();
    const { signal } = written;
    await Promise.race([this.#writing, sleep(closeMs, undefined, { signal }).catch(() => {})]);
    written.abort();
    this.#process.close();
    const { waitingNotes } = this.state;
    if (waitingNotes > 0)
      log.error({ witness: path, waitingNotes }, 'a witness of the audit log lacks the newest notes');
  }

  async #write(): Promise<void> {
    const { path, log } = this.#options;
    try {
      while (this.#waiting.length > 0) {
        this.#sent = this.#waiting.splice(0);
        await this.#append(this.#sent.join(''));
        if (this.#hasFailed) log.info({ witness: path }, 'a witness of the audit log can be written again');
        this.#hasFailed = false;
        this.#sent = [];
      }
    } catch (error) {
      log.error({ err: error, witness: path }, 'a witness of the audit log cannot be written');
      this.#hasFailed = true;
      this.#waiting.unshift(...this.#sent.splice(0));
      this.#bound();
    }
    this.#writing = null;
  }

  async #append(lines: string): Promise<void> {
    const { path, log, lateMs = WITNESS_LATE_MS } = this.#options;
    const timer = setTimeout(() => {
      this.#isLate = true;
      log.error({ witness: path }, 'a witness of the audit log does not answer');
    }, lateMs);
    timer.unref();
    try {
      await this.#process.append(lines);
    } finally {
      clearTimeout(timer);
      this.#isLate = false;
    }
  }

  /** The newest notes count: each vouches for all records before it. */
  #bound(): void {
    const { path, log, notesMax = WITNESS_NOTES_MAX } = this.#options;
    const excess = this.#waiting.length - notesMax;
    if (excess <= 0) return;
    if (this.#lostNotes === 0)
      log.error({ witness: path }, 'a witness of the audit log is so late that it loses notes');
    this.#waiting.splice(0, excess);
    this.#lostNotes += excess;
  }
}
