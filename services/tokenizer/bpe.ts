// Byte-pair encoding of one word (Sennrich et al. 2016): as long as some neighbours have a merge, merge the pair of the
// lowest rank, the leftmost of equals. Short words scan for the lowest rank, long ones keep the pairs in a heap:
// O(n log n), so that a megabyte without a blank costs no more than its length.
import { SCANNED_WORD_BYTES_MAX, SCRATCH_UNITS_KEPT_MAX } from './limits.ts';
import { type MergeTable, NO_MERGE } from './merge-table.ts';

/** Heap keys are rank * POSITIONS + position: both orders in one number below 2^53. */
const POSITIONS = 2 ** 24;

/** Scratch for one encoder; one word at a time. */
export class WordMerger {
  readonly #table: MergeTable;
  readonly #ranks = new Int32Array(SCANNED_WORD_BYTES_MAX);
  #long = new LongWord(0);

  constructor(table: MergeTable) {
    this.#table = table;
  }

  /** Merges symbols[0..count) in place; returns how many are left. */
  merge(symbols: Int32Array, count: number): number {
    if (count < 2) return count;
    return count <= SCANNED_WORD_BYTES_MAX ? this.#mergeShort(symbols, count) : this.#mergeLong(symbols, count);
  }

  #mergeShort(symbols: Int32Array, length: number): number {
    const table = this.#table;
    const ranks = this.#ranks; // ranks[i] = rank of (symbols[i], symbols[i + 1])
    let count = length;
    for (let i = 0; i + 1 < count; i += 1) ranks[i] = table.rank(symbols[i]!, symbols[i + 1]!);
    while (count > 1) {
      let best = NO_MERGE;
      let at = 0;
      for (let i = 0; i + 1 < count; i += 1) {
        const rank = ranks[i]!;
        if (rank < best) {
          best = rank;
          at = i;
        }
      }
      if (best === NO_MERGE) break;
      symbols[at] = table.products[best]!;
      count -= 1;
      for (let i = at + 1; i < count; i += 1) {
        symbols[i] = symbols[i + 1]!;
        ranks[i] = ranks[i + 1]!;
      }
      if (at > 0) ranks[at - 1] = table.rank(symbols[at - 1]!, symbols[at]!);
      if (at + 1 < count) ranks[at] = table.rank(symbols[at]!, symbols[at + 1]!);
    }
    return count;
  }

  #mergeLong(symbols: Int32Array, count: number): number {
    if (this.#long.capacity < count) this.#long = new LongWord(count);
    const left = this.#long.merge(this.#table, symbols, count);
    if (this.#long.capacity > SCRATCH_UNITS_KEPT_MAX) this.#long = new LongWord(0);
    return left;
  }
}

/** A word as a linked list of symbols with a binary heap of its mergeable pairs. */
class LongWord {
  readonly capacity: number;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** Rank of the pair that begins at a position; NO_MERGE also for positions merged away. Tells stale heap keys. */
  readonly #ranks: Int32Array;
  /** Every merge retires a key and adds at most two, so 3n keys suffice. */
  readonly #heap: Float64Array;
  #size = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#next = new Int32Array(capacity);
    this.#previous = new Int32Array(capacity);
    this.#ranks = new Int32Array(capacity);
    this.#heap = new Float64Array(3 * capacity);
  }

  merge(table: MergeTable, symbols: Int32Array, count: number): number {
    const next = this.#next;
    const previous = this.#previous;
    const ranks = this.#ranks;
    this.#fill(table, symbols, count);
    while (this.#size > 0) {
      const key = this.#pop();
      const rank = Math.floor(key / POSITIONS);
      const at = key - rank * POSITIONS;
      if (ranks[at] !== rank) continue; // this pair is gone
      const right = next[at]!;
      const after = next[right]!;
      symbols[at] = table.products[rank]!;
      ranks[right] = NO_MERGE;
      next[at] = after;
      if (after < count) previous[after] = at;
      this.#rate(table, symbols, at, after, count);
      if (at > 0) this.#rate(table, symbols, previous[at]!, at, count);
    }
    let left = 0;
    for (let at = 0; at < count; at = next[at]!) symbols[left++] = symbols[at]!;
    return left;
  }

  #fill(table: MergeTable, symbols: Int32Array, count: number): void {
    this.#size = 0;
    for (let at = 0; at < count; at += 1) {
      this.#next[at] = at + 1;
      this.#previous[at] = at - 1;
      const rank = at + 1 < count ? table.rank(symbols[at]!, symbols[at + 1]!) : NO_MERGE;
      this.#ranks[at] = rank;
      if (rank !== NO_MERGE) this.#heap[this.#size++] = rank * POSITIONS + at;
    }
    for (let index = (this.#size >> 1) - 1; index >= 0; index -= 1) this.#sink(index);
  }

  #rate(table: MergeTable, symbols: Int32Array, at: number, right: number, count: number): void {
    const rank = right < count ? table.rank(symbols[at]!, symbols[right]!) : NO_MERGE;
    this.#ranks[at] = rank;
    if (rank !== NO_MERGE) this.#push(rank * POSITIONS + at);
  }

  #push(key: number): void {
    const heap = this.#heap;
    let index = this.#size++;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (heap[parent]! <= key) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = key;
  }

  #pop(): number {
    const heap = this.#heap;
    const top = heap[0]!;
    this.#size -= 1;
    if (this.#size > 0) {
      heap[0] = heap[this.#size]!;
      this.#sink(0);
    }
    return top;
  }

  #sink(start: number): void {
    const heap = this.#heap;
    const size = this.#size;
    const key = heap[start]!;
    let index = start;
    while (true) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && heap[child + 1]! < heap[child]!) child += 1;
      if (heap[child]! >= key) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = key;
  }
}
