/** Has the mesh read, while nobody types, what the next prompt begins with. Makes way for everything else. */
import type { Clock } from './clock.ts';
import type { InfillQuery } from './infill-source.ts';
import { WARM_EVERY_MS, WARM_IDLE_MS, WARM_PAUSE_MS } from './limits.ts';

export type WarmSource = {
  /** Throws InfillFailure. */
  warm(query: InfillQuery, options: { signal: AbortSignal }): Promise<void>;
};

export type WarmerParts = {
  clock: Clock;
  source: WarmSource;
  /** By the settings as they are now. */
  allowed: () => boolean;
  /** A completion is on its way. */
  busy: () => boolean;
  /** What would be asked where the user is; null: nothing may be. */
  query: () => Promise<InfillQuery | null>;
};

export class Warmer {
  readonly #parts: WarmerParts;
  #wanted = false;
  #running: AbortController | null = null;
  #stopTimer: () => void = () => {};
  #lastAt = Number.NEGATIVE_INFINITY;
  #pausedUntil = Number.NEGATIVE_INFINITY;

  constructor(parts: WarmerParts) {
    this.#parts = parts;
  }

  /** What stands before the next prompt has changed: another document, or other files beside it. */
  noteChange(): void {
    this.#wanted = true;
    this.#schedule();
  }

  /** The user typed or asked: what runs is given up, and may be worth it again when they pause. */
  noteActivity(): void {
    this.#running?.abort();
    this.#schedule();
  }

  /** Another mesh, or the end. */
  reset(): void {
    this.#running?.abort();
    this.#running = null;
    this.#wanted = false;
    this.#pausedUntil = Number.NEGATIVE_INFINITY;
    this.#stopTimer();
  }

  #schedule(): void {
    this.#stopTimer();
    if (!this.#wanted || this.#running || !this.#parts.allowed()) return;
    const now = this.#parts.clock.now();
    const at = Math.max(now + WARM_IDLE_MS, this.#lastAt + WARM_EVERY_MS, this.#pausedUntil);
    this.#stopTimer = this.#parts.clock.after(at - now, () => void this.#run());
  }

  async #run(): Promise<void> {
    const { clock, source, allowed, busy, query } = this.#parts;
    if (!allowed()) return;
    if (busy()) return this.#schedule();
    const abort = new AbortController();
    this.#running = abort;
    this.#wanted = false;
    this.#lastAt = clock.now();
    try {
      const asked = await query();
      if (asked && !abort.signal.aborted && !busy()) await source.warm(asked, { signal: abort.signal });
    } catch {
      // The mesh is full, away or cannot do it: all the same to somebody who waits for nothing.
      if (!abort.signal.aborted) this.#pausedUntil = clock.now() + WARM_PAUSE_MS;
    }
    if (this.#running !== abort) return; // reset meanwhile
    this.#running = null;
    this.#wanted ||= abort.signal.aborted;
    this.#schedule();
  }
}
