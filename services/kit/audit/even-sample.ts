// A bounded sample of something long, evenly spread, taken while it passes.
import { assert } from '#kit/assert.ts';

/** Of all that was added at most `max`, in their order; the last one is always among them. */
export class EvenSample<T> {
  readonly #max: number;
  #stride = 1;
  #count = 0;
  #kept: T[] = [];
  #last: { item: T } | null = null;

  constructor(max: number) {
    assert(max >= 2, 'a sample has a first and a last item');
    this.#max = max;
  }

  add(item: T): void {
    this.#last = { item };
    if (this.#count % this.#stride === 0) this.#kept.push(item);
    this.#count += 1;
    if (this.#kept.length < 2 * this.#max) return;
    this.#kept = this.#kept.filter((_, i) => i % 2 === 0);
    this.#stride *= 2;
  }

  get items(): T[] {
    const last = this.#last;
    if (!last) return [];
    const all = this.#kept.at(-1) === last.item ? this.#kept : [...this.#kept, last.item];
    const end = all.length - 1;
    if (all.length <= this.#max) return [...all];
    return Array.from({ length: this.#max }, (_, i) => all[Math.round((i * end) / (this.#max - 1))] as T);
  }
}
