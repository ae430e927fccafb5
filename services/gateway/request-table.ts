// Running requests by principal and request id: what RequestService.Cancel looks in and what refuses duplicates.
import { QuernError } from '#kit/errors.ts';
import { LiveMap } from '#kit/live-map.ts';
import { type Principal, principalKey } from '#kit/principal.ts';

export type Running = {
  /** Ends it gracefully, with what there is. */
  cancel(reason: QuernError): void;
  /** Ends it at once with an error. */
  abort(reason: QuernError): void;
};

/** A request id belongs to its principal: others can neither see, cancel nor collide with it. */
export class RequestTable {
  readonly #running = new LiveMap<string, Running>();

  get size(): number {
    return this.#running.size;
  }

  /** Throws ALREADY_EXISTS while a request of the same principal and id runs. Returns the removal, idempotent. */
  add(principal: Principal, requestId: string, running: Running): () => void {
    const key = `${principalKey(principal)} ${requestId}`;
    if (this.#running.has(key)) {
      const message = `a request with id "${requestId}" is still running; wait for its end, cancel it, or choose another id`;
      const fields = [{ field: 'options.request_id', description: 'in use by a running request' }];
      throw new QuernError('ALREADY_EXISTS', message, { reason: 'REQUEST_ID_IN_USE', fields });
    }
    this.#running.set(key, running);
    return () => {
      if (this.#running.get(key) === running) this.#running.delete(key);
    };
  }

  find(principal: Principal, requestId: string): Running | null {
    return this.#running.get(`${principalKey(principal)} ${requestId}`) ?? null;
  }

  /** A copy, for the end of a drain. */
  all(): Running[] {
    return [...this.#running.values()];
  }
}
