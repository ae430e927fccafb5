/**
 * The queries of one editor: one that the next keystroke cancels, and at most one that survives it. Cancelling always
 * would leave a fast typist without any suggestion; so after a few unanswered triggers one query is promoted.
 */
import type { Clock } from './clock.ts';
import { Flight, type FlightOptions } from './flight.ts';
import { PROMOTE_AFTER_MS, PROMOTE_AFTER_TRIGGERS, SPECULATE_AFTER_MS, SPECULATION_BUDGET_MIN } from './limits.ts';
import type { Place } from './place.ts';
import { RequestBudget } from './request-budget.ts';

export class Flights {
  readonly #clock: Clock;
  #current: Flight | null = null;
  #promoted: Flight | null = null;
  #speculative: Flight | null = null;
  #unanswered = 0;
  #promotedAt = Number.NEGATIVE_INFINITY;
  readonly #budget: RequestBudget;
  #stopAhead: () => void = () => {};

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#budget = new RequestBudget(clock);
  }

  get running(): Flight[] {
    return [this.#current, this.#promoted, this.#speculative].filter((flight) => flight?.running === true) as Flight[];
  }

  /** An automatic request came in. */
  noteTrigger(): void {
    this.#unanswered++;
    this.#stopAhead();
    this.#budget.noteKey();
  }

  /** So much was asked lately that only a real pause is worth another request. */
  get spent(): boolean {
    return this.#budget.left < 1;
  }

  /** The user saw an answer, or was told that there is none. */
  noteAnswer(): void {
    this.#unanswered = 0;
  }

  /** Whether typing has kept every query from ending, so that the next may survive it. */
  get starving(): boolean {
    return (
      this.#promoted?.running !== true &&
      this.#unanswered >= PROMOTE_AFTER_TRIGGERS &&
      this.#clock.now() - this.#promotedAt >= PROMOTE_AFTER_MS
    );
  }

  /** A running query whose text may go on from what was typed, the one that has most of it first. */
  findFor(place: Place): Flight | null {
    return this.running.find((flight) => flight.typedSince(place) !== null) ?? null;
  }

  /** Which of two supersede keys is free, so that a promoted query is not ended by the next one at the mesh. */
  get freeLane(): number {
    return this.#promoted?.running === true && this.#promoted.query.supersedeKey.endsWith(':0') ? 1 : 0;
  }

  start(options: FlightOptions, survive: boolean): Flight {
    this.#stopAhead();
    this.#budget.noteSent();
    this.#current?.cancel();
    this.#speculative?.cancel();
    const flight = new Flight(options);
    this.#current = flight;
    if (survive) this.#promote(flight);
    return flight;
  }

  /** Asks for what may be wanted next, once somebody may have read what is shown; only while nothing else runs. */
  speculate(options: FlightOptions): void {
    this.#stopAhead();
    this.#stopAhead = this.#clock.after(SPECULATE_AFTER_MS, () => {
      if (this.running.length > 0 || this.#budget.left < SPECULATION_BUDGET_MIN) return;
      this.#budget.noteSent();
      this.#speculative = new Flight(options);
    });
  }

  /** The request that waited for `flight` is gone. */
  release(flight: Flight): void {
    if (flight !== this.#current || !flight.running) return;
    if (this.starving) this.#promote(flight);
    else flight.cancel();
  }

  /** The user went on elsewhere: a query that nothing waits for is cancelled. */
  abandon(): void {
    if (this.#current) this.release(this.#current);
  }

  cancelAll(): void {
    this.#stopAhead();
    for (const flight of this.running) flight.cancel();
  }

  #promote(flight: Flight): void {
    flight.promoted = true;
    this.#promoted = flight;
    this.#current = null;
    this.#promotedAt = this.#clock.now();
    this.#unanswered = 0;
  }
}
