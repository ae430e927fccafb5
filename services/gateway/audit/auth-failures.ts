// Failed authentications, so that a flood of them cannot fill the outbox: the first is told at once, those that follow
// within a window are told together at its end.
import { AUTH_FAILURES_CLIENTS_MAX, AUTH_FAILURES_WINDOW_MS } from '../limits.ts';

export type AuthFailure = {
  /** "" = unknown. */
  clientIp: string;
  /** Id in the token that was given; "" = none, or no token of ours. */
  keyId: string;
};

export type AuthFailures = {
  attempts: number;
  /** How often each client and key id came, the first AUTH_FAILURES_CLIENTS_MAX of each. */
  clients: ReadonlyMap<string, number>;
  keys: ReadonlyMap<string, number>;
};

function count(counts: Map<string, number>, name: string): void {
  if (name === '' || (!counts.has(name) && counts.size >= AUTH_FAILURES_CLIENTS_MAX)) return;
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

export class AuthFailureWindow {
  readonly #tell: (failures: AuthFailures) => void;
  readonly #windowMs: number;
  #gathered = { attempts: 0, clients: new Map<string, number>(), keys: new Map<string, number>() };
  #timer: NodeJS.Timeout | null = null;

  constructor(tell: (failures: AuthFailures) => void, windowMs = AUTH_FAILURES_WINDOW_MS) {
    this.#tell = tell;
    this.#windowMs = windowMs;
  }

  add({ clientIp, keyId }: AuthFailure): void {
    const { clients, keys } = this.#gathered;
    this.#gathered.attempts += 1;
    count(clients, clientIp);
    count(keys, keyId);
    if (this.#timer) return;
    this.#flush();
    this.#open();
  }

  /** Tells what was gathered. */
  close(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#flush();
  }

  #open(): void {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (this.#flush()) this.#open(); // the flood goes on
    }, this.#windowMs);
  }

  #flush(): boolean {
    const gathered = this.#gathered;
    if (gathered.attempts === 0) return false;
    this.#gathered = { attempts: 0, clients: new Map(), keys: new Map() };
    this.#tell(gathered);
    return true;
  }
}
