/** What the completion did in this editor, in numbers. */
import type { Answer } from './completer.ts';
import type { SuggestionEvent } from './suggestion-events.ts';

export type Statistics = {
  answers: number;
  fromCache: number;
  partial: number;
  /** Reason -> answers without a suggestion; FILTERED also by rule, as FILTERED(rule). */
  reasons: Record<string, number>;
  /** Kind of event -> how many. */
  events: Record<string, number>;
};

const increment = (counts: Record<string, number>, key: string): void => {
  counts[key] = (counts[key] ?? 0) + 1;
};

export class StatisticsCounter {
  readonly #counts: Statistics = { answers: 0, fromCache: 0, partial: 0, reasons: {}, events: {} };

  noteAnswer({ reason, rule, from, partial }: Answer): void {
    this.#counts.answers++;
    if (from === 'cache') this.#counts.fromCache++;
    if (partial) this.#counts.partial++;
    if (reason !== null) increment(this.#counts.reasons, rule === null ? reason : `${reason}(${rule})`);
  }

  noteEvent({ kind }: SuggestionEvent): void {
    increment(this.#counts.events, kind);
  }

  get snapshot(): Statistics {
    return { ...this.#counts, reasons: { ...this.#counts.reasons }, events: { ...this.#counts.events } };
  }
}
