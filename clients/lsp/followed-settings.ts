/**
 * The editor's settings: what came with the start, what it says when they change, and what it is asked for where it can be
 * asked. While an answer is awaited that could say "send nothing", `unsettled` keeps everything from being sent.
 */
import type { Clock } from './core/clock.ts';
import { SETTINGS_MS_MAX } from './core/limits.ts';
import { settingNames } from './core/settings.ts';

export const SECTION = 'quern';

export type Fields = Readonly<Record<string, unknown>>;

export type FollowedParts = {
  clock: Clock;
  /** Asks the editor for the section. */
  pull: () => Promise<unknown>;
  /** Puts in force what the editor says now. */
  apply: (given: Fields) => void;
  warn: (message: string) => void;
};

export class FollowedSettings {
  readonly #parts: FollowedParts;
  #initial: Fields = {};
  #pulls = false;
  #turn = 0;
  #unsettled: Promise<void> | null = null;
  #settle: () => void = () => {};
  #stopTimer: () => void = () => {};

  constructor(parts: FollowedParts) {
    this.#parts = parts;
  }

  /** Of the start. They hold until the editor says more, and wherever it says nothing. */
  get initial(): Fields {
    return this.#initial;
  }

  /** Until the editor has answered, or has let the time for it pass; null: what holds is what it wants. */
  get unsettled(): Promise<void> | null {
    return this.#unsettled;
  }

  /** `pulls`: the editor can be asked, and will be. */
  start(given: unknown, pulls: boolean): void {
    const section = sectionOf(given);
    const fields = fieldsOf(section);
    if (!fields) this.#warnOf(section);
    this.#initial = fields ?? {};
    this.#pulls = pulls;
    if (pulls) this.#hold();
    this.#parts.apply(this.#initial);
  }

  /** The editor may be asked from now on. */
  async ready(): Promise<void> {
    if (this.#pulls) await this.#pull();
  }

  /** The editor says that settings changed, and perhaps which. */
  async changed(pushed: unknown): Promise<void> {
    if (this.#pulls) await this.#pull();
    else this.#take(sectionOf(pushed));
  }

  /** The end: what is not settled by now stays so, and nothing that waits for it is let through. */
  close(): void {
    this.#turn++;
    this.#stopTimer();
  }

  async #pull(): Promise<void> {
    const turn = ++this.#turn;
    this.#hold();
    try {
      const given = await this.#parts.pull();
      if (turn === this.#turn) this.#take(given);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (turn === this.#turn)
        this.#parts.warn(`the editor did not tell its settings (${why}); they stay as they were`);
    } finally {
      if (turn === this.#turn) this.#release();
    }
  }

  #take(section: unknown): void {
    const fields = fieldsOf(section);
    if (fields) this.#parts.apply({ ...this.#initial, ...fields });
    else this.#warnOf(section);
  }

  #warnOf(section: unknown): void {
    const got = JSON.stringify(section).slice(0, 80);
    this.#parts.warn(`settings: expected an object, got ${got}; all stay as they were`);
  }

  #hold(): void {
    this.#stopTimer();
    this.#unsettled ??= new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#stopTimer = this.#parts.clock.after(SETTINGS_MS_MAX, () => {
      const seconds = SETTINGS_MS_MAX / 1_000;
      this.#parts.warn(
        `the editor was asked for its settings and did not answer within ${seconds} s; the last ones hold`,
      );
      this.#release();
    });
  }

  #release(): void {
    this.#stopTimer();
    this.#unsettled = null;
    this.#settle();
  }
}

/** What is set in it; null where it is no record. Null in place of a value means that nothing is set, not even the default. */
function fieldsOf(section: unknown): Fields | null {
  if (section === undefined || section === null) return {};
  if (Array.isArray(section) && section.length === 0) return {}; // Lua's empty table
  if (typeof section !== 'object' || Array.isArray(section)) return null;
  return Object.fromEntries(Object.entries(section).filter(([, value]) => value !== null && value !== undefined));
}

/** Editors give all settings, or the section alone; sections of others are none of ours. */
function sectionOf(given: unknown): unknown {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return given;
  const all = given as Fields;
  if (SECTION in all) return all[SECTION];
  const isOthers = ([name, value]: [string, unknown]): boolean =>
    typeof value === 'object' && value !== null && !settingNames.includes(name);
  return Object.entries(all).every(isOthers) ? null : all;
}
