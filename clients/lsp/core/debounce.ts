/** How long an automatic request waits for further typing: learnt from how the user types and how fast answers come. */
import {
  DEBOUNCE_MAX_MS,
  DEBOUNCE_MIN_MS,
  DEBOUNCE_RATE_MAX,
  DEBOUNCE_RATE_MIN,
  TYPING_INTERVAL_MAX_MS,
  TYPING_INTERVAL_MIN_MS,
  TYPING_INTERVAL_START_MS,
  TYPING_PAUSE_MS,
  TYPING_SAMPLES_MAX,
  TYPING_SAMPLES_MIN,
} from './limits.ts';
import type { Place } from './place.ts';

const clamp = (min: number, max: number, value: number): number => Math.min(max, Math.max(min, value));

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * 0..1: how well a place lends itself to a suggestion; the better, the shorter the wait. Something begins at the start of a
 * line, behind a blank, an opening bracket or a dot: there people pause. Behind what ends or joins the next key is known.
 */
export function placeScore({ linePrefix, lineSuffix, suffix }: Place): number {
  const afterSign = linePrefix === '' || /[\s([{.]$/.test(linePrefix) ? 0.5 : 0;
  const atLineEnd = /\w/.test(lineSuffix) ? 0 : 0.4; // brackets that closed themselves are no text
  const atDocumentEnd = suffix.trim() === '' ? 0.1 : 0;
  return afterSign + atLineEnd + atDocumentEnd;
}

export class Debounce {
  readonly #intervals: number[] = [];
  readonly #responses: number[] = [];
  #lastKeyAt: number | null = null;

  /** A change of the text at `now`. */
  noteTyping(now: number): void {
    const since = this.#lastKeyAt === null ? null : now - this.#lastKeyAt;
    this.#lastKeyAt = now;
    if (since === null || since > TYPING_PAUSE_MS) return;
    this.#intervals.push(since);
    if (this.#intervals.length > TYPING_SAMPLES_MAX) this.#intervals.shift();
  }

  /** An answer took `ms` from the request that was sent to its text. */
  noteResponse(ms: number): void {
    this.#responses.push(ms);
    if (this.#responses.length > TYPING_SAMPLES_MIN) this.#responses.shift();
  }

  /** Milliseconds to wait before a request for `place` is sent. `spent`: so much was asked that only a real pause counts. */
  delayMs(place: Place, { spent = false } = {}): number {
    if (spent) return DEBOUNCE_MAX_MS;
    const learnt = this.#intervals.length >= TYPING_SAMPLES_MIN;
    const base = learnt
      ? clamp(TYPING_INTERVAL_MIN_MS, TYPING_INTERVAL_MAX_MS, median(this.#intervals))
      : TYPING_INTERVAL_START_MS;
    const rate = DEBOUNCE_RATE_MAX - (DEBOUNCE_RATE_MAX - DEBOUNCE_RATE_MIN) * placeScore(place);
    const response = this.#responses.length === 0 ? 0 : mean(this.#responses);
    return clamp(DEBOUNCE_MIN_MS, DEBOUNCE_MAX_MS, rate * base - response);
  }
}
