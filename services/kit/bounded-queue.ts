// A queue between one or more producers and one consumer. Bounded: push answers, never blocks and never drops.
import { assert } from './assert.ts';
import { type QuernError, toQuernError } from './errors.ts';

export type PushVerdict = { ok: true } | { ok: false; reason: 'full' | 'closed' };

type Waiter<T> = { resolve(item: T | undefined): void; reject(error: unknown): void };

/**
 * Invariants: at most `capacity` items wait; a waiting taker means no items wait; after close() pushes are refused,
 * what was queued can still be taken, then take() answers undefined.
 */
export class BoundedQueue<T> {
  readonly #capacity: number;
  #items: T[] = [];
  #head = 0;
  readonly #waiters = new Set<Waiter<T>>();
  #closed = false;
  #error: QuernError | null = null;

  constructor(capacity: number) {
    assert(
      Number.isInteger(capacity) && capacity > 0,
      `BoundedQueue capacity must be a positive integer, got ${capacity}`,
    );
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  get capacity(): number {
    return this.#capacity;
  }

  get closed(): boolean {
    return this.#closed;
  }

  push(item: T): PushVerdict {
    if (this.#closed) return { ok: false, reason: 'closed' };
    for (const waiter of this.#waiters) {
      this.#waiters.delete(waiter);
      waiter.resolve(item);
      return { ok: true };
    }
    if (this.size >= this.#capacity) return { ok: false, reason: 'full' };
    this.#items.push(item);
    return { ok: true };
  }

  /** The next item now, or undefined when none waits. */
  poll(): T | undefined {
    if (this.size === 0) return undefined;
    const item = this.#items[this.#head] as T;
    this.#items[this.#head] = undefined as T; // the queue must not keep what was taken alive
    this.#head += 1;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    } else if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    return item;
  }

  /**
   * The next item; waits for one. Undefined when the queue is closed and empty.
   * Rejects with the signal's reason, or with the error given to close().
   */
  take(options: { signal?: AbortSignal | undefined } = {}): Promise<T | undefined> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(toQuernError(signal.reason));
    if (this.size > 0) return Promise.resolve(this.poll());
    if (this.#error) return Promise.reject(this.#error);
    if (this.#closed) return Promise.resolve(undefined);
    return new Promise<T | undefined>((resolve, reject) => {
      const waiter: Waiter<T> = {
        resolve(item) {
          signal?.removeEventListener('abort', onAbort);
          resolve(item);
        },
        reject(error) {
          signal?.removeEventListener('abort', onAbort);
          reject(error);
        },
      };
      const onAbort = (): void => {
        this.#waiters.delete(waiter);
        waiter.reject(toQuernError(signal?.reason));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Refuses further pushes. With an error, take() rejects with it once the queue is empty. Idempotent: the first call counts. */
  close(error?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error === undefined ? null : toQuernError(error);
    for (const waiter of this.#waiters) {
      if (this.#error) waiter.reject(this.#error);
      else waiter.resolve(undefined);
    }
    this.#waiters.clear();
  }

  /** Takes until closed and empty. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    while (true) {
      const item = await this.take();
      if (item === undefined && this.#closed && this.size === 0) return;
      yield item as T;
    }
  }
}
