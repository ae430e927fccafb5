// Who may be in a place now: several together, or one alone. In order of arrival, so that neither kind waits for ever.
type Waiting = { readonly alone: boolean; admit(): void };

/** Invariant: whoever is first in the queue cannot be let in now. */
export class SharedLock {
  #inside = 0;
  #isAlone = false;
  readonly #waiting: Waiting[] = [];

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Resolves with what lets go again, which may be called twice. Rejects with the signal's reason when it aborts first. */
  async take({ alone, signal }: { alone: boolean; signal: AbortSignal }): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#waiting.length > 0 || !this.#hasRoom(alone)) await this.#wait(alone, signal);
    else this.#enter(alone);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#inside -= 1;
      this.#isAlone = false;
      this.#fill();
    };
  }

  #hasRoom(alone: boolean): boolean {
    return this.#inside === 0 || !(alone || this.#isAlone);
  }

  #enter(alone: boolean): void {
    this.#inside += 1;
    this.#isAlone = alone;
  }

  #fill(): void {
    for (let next = this.#waiting[0]; next && this.#hasRoom(next.alone); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#enter(next.alone);
      next.admit();
    }
  }

  #wait(alone: boolean, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      this.#fill(); // those behind it may have waited for it alone
      reject(signal.reason);
    };
    const waiting: Waiting = {
      alone,
      admit() {
        signal.removeEventListener('abort', onAbort);
        resolve();
      },
    };
    this.#waiting.push(waiting);
    signal.addEventListener('abort', onAbort, { once: true });
    return promise;
  }
}
