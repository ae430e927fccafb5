/**
 * Pieces of files that the user was at lately, oldest first. The order is that of arrival and the oldest go only while
 * nobody types, several at once: what stands first in a prompt decides whether the engine's prefix cache helps.
 */
import type { Clock } from '../clock.ts';
import type { ContextChunk } from '../infill-source.ts';
import {
  RING_CHUNKS_MAX,
  RING_EVICTED_AT_ONCE,
  RING_IDLE_MS,
  RING_LOCAL_SIMILARITY,
  RING_REPLACE_SIMILARITY,
  RING_WAITING_MAX,
} from '../limits.ts';
import { bagOf, type LineBag, similarity } from './similarity.ts';

type Held = ContextChunk & { uri: string; bag: LineBag };

export class ChunkRing {
  readonly #clock: Clock;
  #held: Held[] = [];
  /** For which there is no room until the next idle moment. */
  #waiting: Held[] = [];
  #busyAt = Number.NEGATIVE_INFINITY;

  readonly #onChange: () => void;

  /** Calls `onChange` after what it holds has changed by something taken. */
  constructor(clock: Clock, onChange: () => void = () => {}) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#held.length;
  }

  /** The user typed or asked. */
  noteBusy(): void {
    this.#busyAt = this.#clock.now();
  }

  take(uri: string, chunk: ContextChunk): void {
    const held: Held = { ...chunk, uri, bag: bagOf(chunk.text) };
    if (held.bag.total === 0) return;
    const isLike = (other: Held): boolean => similarity(other.bag, held.bag) > RING_REPLACE_SIMILARITY;
    const at = this.#held.findIndex(isLike);
    // The same text is kept where it stands; a newer version of it comes in its place.
    if (at !== -1) {
      if (this.#held[at]?.text === chunk.text) return;
      this.#held[at] = held;
      this.#onChange();
      return;
    }
    this.#waiting = this.#waiting.filter((other) => !isLike(other));
    this.#waiting.push(held);
    if (this.#waiting.length > RING_WAITING_MAX) this.#waiting.shift();
    this.#settle();
    this.#onChange();
  }

  forget(keep: (uri: string) => boolean): void {
    this.#held = this.#held.filter(({ uri }) => keep(uri));
    this.#waiting = this.#waiting.filter(({ uri }) => keep(uri));
  }

  /** What goes beside a prompt whose text around the cursor is `local`: nothing that the model would only copy. */
  chunksBeside(local: string): ContextChunk[] {
    this.#settle();
    const bag = bagOf(local);
    return this.#held
      .filter((held) => similarity(held.bag, bag) <= RING_LOCAL_SIMILARITY)
      .map(({ path, text }) => ({ path, text, kind: 'recent' }));
  }

  #settle(): void {
    const idle = this.#clock.now() - this.#busyAt >= RING_IDLE_MS;
    while (this.#waiting.length > 0) {
      if (this.#held.length >= RING_CHUNKS_MAX) {
        if (!idle) return;
        this.#held.splice(0, RING_EVICTED_AT_ONCE);
      }
      const next = this.#waiting.shift();
      if (next) this.#held.push(next);
    }
  }
}
