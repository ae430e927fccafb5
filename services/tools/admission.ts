// Who may run now: places on this host, shared fairly. A call has a place or waits; tenants take turns, each in order of arrival.
import { QuernError } from '#kit/errors.ts';
import { QUEUE_RETRY_MS } from './limits.ts';

export type AdmissionBounds = { perTenant: number; perHost: number; queue: number };

type Waiting = { tenant: string; admit(): void; refuse(error: QuernError): void };

function noRoom(queued: number): QuernError {
  const message = `${queued} tool calls wait for a place already; call again later, or raise QUERN_TOOLS_CONCURRENT_PER_HOST`;
  return new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'TOOL_QUEUE_FULL', retryAfterMs: QUEUE_RETRY_MS });
}

/** Invariant: nobody waits while there is a place that this tenant may have. */
export class Admission {
  readonly #bounds: AdmissionBounds;
  readonly #running = new Map<string, number>();
  #total = 0;
  /** By tenant, in the order in which they have their turn; no list is empty. */
  readonly #queues = new Map<string, Waiting[]>();
  #queued = 0;

  constructor(bounds: AdmissionBounds) {
    this.#bounds = bounds;
  }

  get running(): number {
    return this.#total;
  }

  get queued(): number {
    return this.#queued;
  }

  /**
   * Resolves with what gives the place back. Rejects RESOURCE_EXHAUSTED when there is no room to wait, or when room is needed
   * for a tenant that has less of it; with the signal's reason when it aborts first.
   */
  async enter(tenant: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (!this.#mayRun(tenant)) await this.#wait(tenant, signal);
    else this.#take(tenant);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#leave(tenant);
    };
  }

  #mayRun(tenant: string): boolean {
    const { perTenant, perHost } = this.#bounds;
    return this.#total < perHost && (this.#running.get(tenant) ?? 0) < perTenant;
  }

  #take(tenant: string): void {
    this.#total += 1;
    this.#running.set(tenant, (this.#running.get(tenant) ?? 0) + 1);
  }

  #leave(tenant: string): void {
    this.#total -= 1;
    const rest = (this.#running.get(tenant) ?? 1) - 1;
    if (rest > 0) this.#running.set(tenant, rest);
    else this.#running.delete(tenant);
    this.#fill();
  }

  #fill(): void {
    for (const [tenant, queue] of [...this.#queues]) {
      if (this.#total >= this.#bounds.perHost) return;
      if (!this.#mayRun(tenant)) continue;
      const next = queue.shift()!;
      this.#queued -= 1;
      this.#queues.delete(tenant); // its next turn comes after everybody else's
      if (queue.length > 0) this.#queues.set(tenant, queue);
      this.#take(tenant);
      next.admit();
    }
  }

  #wait(tenant: string, signal: AbortSignal): Promise<void> {
    const refused = this.#makeRoom(tenant);
    if (refused) return Promise.reject(refused);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#drop(waiting);
        reject(signal.reason);
      };
      const settle = (act: () => void): void => {
        signal.removeEventListener('abort', onAbort);
        act();
      };
      const waiting: Waiting = {
        tenant,
        admit: () => settle(resolve),
        refuse: (error) => settle(() => reject(error)),
      };
      const queue = this.#queues.get(tenant) ?? [];
      queue.push(waiting);
      this.#queues.set(tenant, queue);
      this.#queued += 1;
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** When all room is taken, the newest call of the tenant with the most of it goes, unless that would be this tenant. */
  #makeRoom(tenant: string): QuernError | null {
    if (this.#queued < this.#bounds.queue) return null;
    let longest: Waiting[] = [];
    for (const queue of this.#queues.values()) if (queue.length > longest.length) longest = queue;
    if ((this.#queues.get(tenant)?.length ?? 0) + 1 >= longest.length) return noRoom(this.#queued);
    const victim = longest.at(-1)!;
    this.#drop(victim);
    victim.refuse(noRoom(this.#queued + 1));
    return null;
  }

  #drop(waiting: Waiting): void {
    const queue = this.#queues.get(waiting.tenant);
    const at = queue?.indexOf(waiting) ?? -1;
    if (!queue || at < 0) return;
    queue.splice(at, 1);
    this.#queued -= 1;
    if (queue.length === 0) this.#queues.delete(waiting.tenant);
  }
}
