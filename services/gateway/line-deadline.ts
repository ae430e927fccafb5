// llama.cpp's t_max_predict_ms: a time that counts from the first token, and that ends a text with a line rather than within one.
import type { Vocabulary } from './vocabulary.ts';

const LINE_FEED = 0x0a;

/** Of one choice. It has no timer: time is looked at when tokens come, so a text of one line has all the time it takes. */
export class LineDeadline {
  readonly #limitMs: number;
  readonly #vocabulary: Vocabulary;
  readonly #now: () => number;
  #startedMs: number | null = null;
  #passed = false;

  /** `now`: milliseconds of a clock that only goes forward. */
  constructor(limitMs: number, vocabulary: Vocabulary, now: () => number = () => performance.now()) {
    this.#limitMs = limitMs;
    this.#vocabulary = vocabulary;
    this.#now = now;
  }

  /** The text is to end with what take() gave last. */
  get passed(): boolean {
    return this.#passed;
  }

  /** The next ids as far as they belong to the text: once time is over, up to the first that ends a line. */
  take(ids: readonly number[]): readonly number[] {
    if (ids.length === 0) return ids;
    const nowMs = this.#now();
    this.#startedMs ??= nowMs;
    if (nowMs - this.#startedMs <= this.#limitMs) return ids;
    // No byte of a character of several is a line feed.
    const at = ids.findIndex((id) => this.#vocabulary.bytes(id).includes(LINE_FEED));
    if (at < 0) return ids;
    this.#passed = true;
    return ids.slice(0, at + 1);
  }
}
