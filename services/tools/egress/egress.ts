// The way out for http_fetch: a process of its own that is started with the first request and goes when nothing uses it.
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { QuernError } from '#kit/errors.ts';
import { FETCH_IDLE_MS, FETCH_RUNNING_MAX } from '../tool-limits.ts';
import type { FetchMessage, FetchReply } from './fetch-messages.ts';
import { endGuard, forkGuard } from './guard-fork.ts';
import type { EgressSettings, FetchAnswer, FetchRequest } from './guarded-fetch.ts';
import { allowRuleProblem } from './url-rules.ts';

export type Egress = {
  readonly settings: EgressSettings;
  /** Throws PERMISSION_DENIED, reason EGRESS_DENIED, for what the rules forbid; UNAVAILABLE; RESOURCE_EXHAUSTED; the signal's reason. */
  fetch(request: FetchRequest, options: { signal: AbortSignal }): Promise<FetchAnswer>;
  close(): Promise<void>;
};

type Pending = { resolve: (answer: FetchAnswer) => void; reject: (error: unknown) => void };

const PROGRAM = fileURLToPath(new URL('./fetch-process.ts', import.meta.url));
class EgressProcess implements Egress {
  readonly settings: EgressSettings;
  readonly #idleMs: number;
  readonly #pending = new Map<number, Pending>();
  #child: ChildProcess | null = null;
  #idle: NodeJS.Timeout | null = null;
  #nextId = 1;
  #closed = false;

  constructor(settings: EgressSettings, idleMs: number) {
    this.settings = settings;
    this.#idleMs = idleMs;
  }

  async fetch(request: FetchRequest, { signal }: { signal: AbortSignal }): Promise<FetchAnswer> {
    signal.throwIfAborted();
    if (this.#closed) throw new QuernError('UNAVAILABLE', 'the service stops');
    if (this.#pending.size >= FETCH_RUNNING_MAX) {
      throw new QuernError('RESOURCE_EXHAUSTED', `${FETCH_RUNNING_MAX} fetches are running; try again`, {
        retryAfterMs: 1_000,
      });
    }
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<FetchAnswer>();
    this.#pending.set(id, { resolve, reject });
    const onAbort = (): void => {
      this.#send({ op: 'cancel', id });
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      this.#send({ op: 'fetch', id, request });
      return await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#pending.delete(id);
      this.#restIfIdle();
    }
  }

  #send(message: FetchMessage): void {
    if (message.op === 'cancel' && !this.#child) return;
    this.#child ??= this.#start();
    this.#child.send(message, (error) => {
      if (error && message.op === 'fetch') this.#pending.get(message.id)?.reject(lost());
    });
  }

  #start(): ChildProcess {
    const child = forkGuard(PROGRAM);
    child.on('message', (reply: FetchReply) => this.#answer(reply));
    child.on('error', () => this.#lost(child));
    child.on('exit', () => this.#lost(child));
    child.on('disconnect', () => this.#lost(child));
    child.send({ op: 'settings', settings: this.settings } satisfies FetchMessage, () => undefined);
    return child;
  }

  #answer(reply: FetchReply): void {
    const pending = this.#pending.get(reply.id);
    if (reply.ok) pending?.resolve(reply.answer);
    else if (reply.denied)
      pending?.reject(new QuernError('PERMISSION_DENIED', reply.message, { reason: 'EGRESS_DENIED' }));
    else pending?.reject(new QuernError('UNAVAILABLE', reply.message, { reason: 'FETCH_FAILED' }));
  }

  #lost(child: ChildProcess): void {
    if (child !== this.#child) return;
    this.#child = null;
    for (const { reject } of this.#pending.values()) reject(lost());
  }

  #restIfIdle(): void {
    if (this.#idle) clearTimeout(this.#idle);
    if (this.#pending.size > 0) return;
    this.#idle = setTimeout(() => {
      if (this.#pending.size > 0) return;
      const child = this.#child;
      this.#child = null; // the next request must not be sent to one that is going
      child?.disconnect();
    }, this.#idleMs);
    this.#idle.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#idle) clearTimeout(this.#idle);
    const child = this.#child;
    this.#child = null;
    for (const { reject } of this.#pending.values()) reject(new QuernError('UNAVAILABLE', 'the service stops'));
    if (child) await endGuard(child);
  }
}

function lost(): QuernError {
  return new QuernError('UNAVAILABLE', 'the process that fetches ended; try again', { reason: 'FETCH_FAILED' });
}

/** Throws INVALID_ARGUMENT for a wrong entry of the allow-list. Starts nothing yet. */
export function createEgress(settings: EgressSettings, { idleMs = FETCH_IDLE_MS } = {}): Egress {
  for (const rule of settings.allow) {
    const problem = allowRuleProblem(rule);
    if (problem !== null) throw new QuernError('INVALID_ARGUMENT', `allow-list of http_fetch: ${problem}`);
  }
  return new EgressProcess(settings, idleMs);
}
