/** How much may be asked: keys earn requests, and so do pauses. Who has none left asks only where the user pauses again. */
import type { Clock } from './clock.ts';
import { REQUEST_BUDGET_MAX, REQUESTS_PER_KEY, REQUESTS_PER_PAUSE, TYPING_PAUSE_MS } from './limits.ts';

export class RequestBudget {
  readonly #clock: Clock;
  #left = REQUEST_BUDGET_MAX;
  #keyAt: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#keyAt = clock.now();
  }

  /** Requests that may be sent, 0..REQUEST_BUDGET_MAX. What is sent behind a pause leaves no debt. */
  get left(): number {
    return this.#left;
  }

  noteKey(): void {
    const now = this.#clock.now();
    const earned = now - this.#keyAt > TYPING_PAUSE_MS ? REQUESTS_PER_PAUSE : REQUESTS_PER_KEY;
    this.#keyAt = now;
    this.#left = Math.min(REQUEST_BUDGET_MAX, this.#left + earned);
  }

  noteSent(): void {
    this.#left = Math.max(0, this.#left - 1);
  }
}
