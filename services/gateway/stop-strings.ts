// Finds stop strings in text that arrives in pieces. The earliest start wins, then the longest.
// Data: `held`, the text that may still belong to a match; everything before it is free to be shown.
import { assert } from '#kit/assert.ts';

export type StopMatch = {
  /** UTF-16 units from the beginning of the text. */
  start: number;
  end: number;
  stopString: string;
};

/**
 * The result does not depend on how the text is cut: a match is announced only when no earlier and no longer one at the
 * same place can still come. Held text is never longer than that needs: at most the longest stop string less one unit
 * before a match, at most the longest one behind a match's start.
 */
export class StopMatcher {
  readonly #patterns: readonly string[];
  #held = '';
  #released = 0;
  #match: StopMatch | null = null;

  constructor(patterns: readonly string[]) {
    assert(
      patterns.every((p) => p.length > 0),
      'stop strings are not empty',
    );
    this.#patterns = patterns;
  }

  /** The match, once it is certain. Nothing is released after it. */
  get match(): StopMatch | null {
    return this.#match;
  }

  /** UTF-16 units released so far. */
  get released(): number {
    return this.#released;
  }

  /** Takes the next piece; returns the text that is certain to be shown now. */
  push(piece: string): string {
    if (this.#match) return '';
    if (piece.length === 0) return '';
    return this.#advance(this.#held + piece, false);
  }

  /** The text has ended: what was held back only because a match might follow comes free. */
  end(): string {
    if (this.#match || this.#held.length === 0) return '';
    return this.#advance(this.#held, true);
  }

  #advance(text: string, ended: boolean): string {
    const found = this.#earliest(text);
    const limit = found === null ? text.length : found.start;
    const open = ended ? -1 : this.#openCandidate(text, limit, found);
    if (open >= 0) return this.#release(text, Math.min(open, limit));
    if (found === null) return this.#release(text, text.length);
    const shown = this.#release(text, found.start);
    const start = this.#released;
    this.#match = { start, end: start + found.pattern.length, stopString: found.pattern };
    this.#held = '';
    return shown;
  }

  #release(text: string, count: number): string {
    this.#held = text.slice(count);
    this.#released += count;
    return count === text.length ? text : text.slice(0, count);
  }

  /** The complete match with the earliest start, the longest of those. */
  #earliest(text: string): { start: number; pattern: string } | null {
    let best: { start: number; pattern: string } | null = null;
    for (const pattern of this.#patterns) {
      const start = text.indexOf(pattern);
      if (start < 0) continue;
      if (!best || start < best.start || (start === best.start && pattern.length > best.pattern.length)) {
        best = { start, pattern };
      }
    }
    return best;
  }

  /** The first position at which the end of `text` begins a stop string that would beat `found`; -1 for none. */
  #openCandidate(text: string, limit: number, found: { start: number; pattern: string } | null): number {
    let first = -1;
    for (const pattern of this.#patterns) {
      const last = found && pattern.length > found.pattern.length ? limit : limit - 1;
      const stop = first >= 0 ? Math.min(last, first - 1) : last;
      for (let i = Math.max(0, text.length - pattern.length + 1); i <= stop && i < text.length; i += 1) {
        if (text.charCodeAt(i) === pattern.charCodeAt(0) && pattern.startsWith(text.slice(i))) {
          first = i;
          break;
        }
      }
    }
    return first;
  }
}

/** The same verdict over a whole text: the plain twin that the streamed form is tested against. */
export function findStop(text: string, patterns: readonly string[]): StopMatch | null {
  let best: StopMatch | null = null;
  for (const stopString of patterns) {
    const start = text.indexOf(stopString);
    if (start < 0) continue;
    const end = start + stopString.length;
    if (!best || start < best.start || (start === best.start && end > best.end)) best = { start, end, stopString };
  }
  return best;
}
