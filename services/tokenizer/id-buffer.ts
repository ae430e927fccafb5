// Token ids of one encode: a Uint32Array that grows.
import { SCRATCH_UNITS_KEPT_MAX } from './limits.ts';

export class IdBuffer {
  ids: Uint32Array;
  count = 0;

  constructor(capacity = 256) {
    this.ids = new Uint32Array(capacity);
  }

  /** Makes room for `more` further ids; call it before writing into `ids` directly. */
  reserve(more: number): void {
    const needed = this.count + more;
    if (needed <= this.ids.length) return;
    const grown = new Uint32Array(Math.max(needed, 2 * this.ids.length));
    grown.set(this.ids.subarray(0, this.count));
    this.ids = grown;
  }

  push(id: number): void {
    this.reserve(1);
    this.ids[this.count++] = id;
  }

  append(ids: ArrayLike<number>): void {
    this.reserve(ids.length);
    this.ids.set(ids, this.count);
    this.count += ids.length;
  }

  clear(): void {
    this.count = 0;
    if (this.ids.length > SCRATCH_UNITS_KEPT_MAX) this.ids = new Uint32Array(256);
  }

  /** A copy that lives on its own. */
  toIds(): Uint32Array {
    return this.ids.slice(0, this.count);
  }
}
