// Words already merged: a set-associative table over typed arrays. It never grows, a look-up allocates nothing and probes
// at most CACHE_WAYS entries, and words are compared unit by unit, so nobody can make two words answer for each other.
// Words that were met again outlive words met once: a flood of random words replaces only other such words.
import { CACHE_SETS, CACHE_WAYS, CACHED_WORD_IDS_MAX, CACHED_WORD_UNITS_MAX } from './limits.ts';

const ENTRIES = CACHE_SETS * CACHE_WAYS;
const USES_MAX = 3;

export class WordCache {
  /** Hash of the word in each entry; what an empty entry holds does not matter, its length is 0. */
  readonly #hashes = new Int32Array(ENTRIES);
  /** Units in the low 8 bits, ids in the next 8. 0 = empty. */
  readonly #sizes = new Uint16Array(ENTRIES);
  /** 0..USES_MAX: how often the word was met again, fading when its set is full of such words. */
  readonly #uses = new Uint8Array(ENTRIES);
  readonly #units = new Uint16Array(ENTRIES * CACHED_WORD_UNITS_MAX);
  readonly #ids = new Uint32Array(ENTRIES * CACHED_WORD_IDS_MAX);

  /**
   * The ids of units[from..to) are written to out[at..]; returns how many, 0 when the word is not known.
   * At most CACHED_WORD_UNITS_MAX units; `hash` is hashWord of them.
   */
  read(units: Uint16Array, from: number, to: number, hash: number, out: Uint32Array, at: number): number {
    const length = to - from;
    let entry = (hash & (CACHE_SETS - 1)) * CACHE_WAYS;
    const last = entry + CACHE_WAYS;
    for (; entry < last; entry += 1) {
      if (this.#hashes[entry] !== hash) continue;
      const size = this.#sizes[entry]!;
      if ((size & 0xff) !== length || !this.#holds(entry, units, from, length)) continue;
      if (this.#uses[entry]! < USES_MAX) this.#uses[entry] = USES_MAX;
      const count = size >>> 8;
      const base = entry * CACHED_WORD_IDS_MAX;
      for (let i = 0; i < count; i += 1) out[at + i] = this.#ids[base + i]!;
      return count;
    }
    return 0;
  }

  #holds(entry: number, units: Uint16Array, from: number, length: number): boolean {
    const base = entry * CACHED_WORD_UNITS_MAX;
    for (let i = 0; i < length; i += 1) if (this.#units[base + i] !== units[from + i]) return false;
    return true;
  }

  /** Remembers symbols[0..count) for a word that read() did not know; words too long for an entry are let go. */
  write(units: Uint16Array, from: number, to: number, hash: number, symbols: Int32Array, count: number): void {
    const length = to - from;
    if (length > CACHED_WORD_UNITS_MAX || count > CACHED_WORD_IDS_MAX) return;
    const entry = this.#victim((hash & (CACHE_SETS - 1)) * CACHE_WAYS);
    this.#hashes[entry] = hash;
    this.#sizes[entry] = length | (count << 8);
    this.#uses[entry] = 0;
    for (let i = 0; i < length; i += 1) this.#units[entry * CACHED_WORD_UNITS_MAX + i] = units[from + i]!;
    for (let i = 0; i < count; i += 1) this.#ids[entry * CACHED_WORD_IDS_MAX + i] = symbols[i]!;
  }

  #victim(first: number): number {
    let least = first;
    for (let entry = first; entry < first + CACHE_WAYS; entry += 1) {
      if (this.#sizes[entry] === 0) return entry;
      if (this.#uses[entry]! < this.#uses[least]!) least = entry;
    }
    const uses = this.#uses[least]!;
    if (uses > 0) for (let entry = first; entry < first + CACHE_WAYS; entry += 1) this.#uses[entry]! -= uses;
    return least;
  }
}

/** Hash of units[from..to): multiply and xor, mixed at the end. */
export function hashWord(units: Uint16Array, from: number, to: number): number {
  let hash = to - from;
  for (let i = from; i < to; i += 1) hash = Math.imul(hash ^ units[i]!, 0x9e3779b1);
  return hash ^ (hash >>> 15);
}
