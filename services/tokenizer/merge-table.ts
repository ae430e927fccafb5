// The merges of a byte-pair vocabulary: (left id, right id) -> rank and the id of what they make.
// Open addressing over one Int32Array, four numbers a slot, so that a look-up touches one cache line and allocates nothing.

/** No such merge. Larger than every rank. */
export const NO_MERGE = 0x7fffffff;

export class MergeTable {
  /** [left, right, rank, product] per slot; left -1 = empty. */
  readonly #slots: Int32Array;
  readonly #mask: number;
  /** Product of each rank. */
  readonly products: Int32Array;

  /** `merges` in order of rank; of two equal pairs the later one counts, as in the library. */
  constructor(merges: readonly { left: number; right: number; product: number }[]) {
    let size = 16;
    while (size < 2 * merges.length) size *= 2; // load <= 0.5
    this.#slots = new Int32Array(4 * size).fill(-1);
    this.#mask = size - 1;
    this.products = new Int32Array(merges.length);
    for (const [rank, { left, right, product }] of merges.entries()) {
      const at = this.#find(left, right);
      this.#slots[at] = left;
      this.#slots[at + 1] = right;
      this.#slots[at + 2] = rank;
      this.#slots[at + 3] = product;
      this.products[rank] = product;
    }
  }

  /** Index of the pair's slot, or of the empty one where it belongs. */
  #find(left: number, right: number): number {
    const slots = this.#slots;
    const mask = this.#mask;
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash = (hash ^ (hash >>> 15)) & mask;
    while (true) {
      const at = hash << 2;
      const found = slots[at]!;
      if (found === -1 || (found === left && slots[at + 1] === right)) return at;
      hash = (hash + 1) & mask;
    }
  }

  /** Rank of the pair, NO_MERGE when there is none. */
  rank(left: number, right: number): number {
    const at = this.#find(left, right);
    return this.#slots[at] === -1 ? NO_MERGE : this.#slots[at + 2]!;
  }
}
