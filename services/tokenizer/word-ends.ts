// Where the words of a text end: what a pretokenizer writes and an encoder reads.
import { SCRATCH_UNITS_KEPT_MAX } from './limits.ts';

/** ends[0..count) rise and the last one is the length of the text. */
export type WordEnds = { ends: Int32Array; count: number };

export function createWordEnds(): WordEnds {
  return { ends: new Int32Array(4096), count: 0 };
}

/** Empties `words` and makes room for `units` ends, so that splitters need no checks. */
export function clearWordEnds(words: WordEnds, units: number): void {
  words.count = 0;
  const oversized = words.ends.length > SCRATCH_UNITS_KEPT_MAX && units <= SCRATCH_UNITS_KEPT_MAX;
  if (words.ends.length < units || oversized) words.ends = new Int32Array(Math.max(4096, units));
}

/** Words from..to of `units`, appended to `words`. `text` holds the same units, for patterns that need a string. */
export type Splitter = (text: string, units: Uint16Array, from: number, to: number, words: WordEnds) => void;
