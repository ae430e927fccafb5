// Conversations with MCP servers that are kept: one per (server, tenant, session), never shared. Each ends when it was idle for
// long, when a call in it was cancelled, or when others need the place.
import { setTimeout as sleep } from 'node:timers/promises';
import { QuernError } from '#kit/errors.ts';
import type { McpConnection } from './connection.ts';
import { MCP_CANCEL_GRACE_MS, MCP_SESSIONS_MAX, MCP_SESSIONS_PER_TENANT } from './limits.ts';
import type { LinkStop } from './link.ts';

export type SessionKey = { readonly server: string; readonly tenant: string; readonly sessionId: string };

/** How a conversation begins. When it rejects, nothing of it is left. */
export type OpenSession = (options: { signal: AbortSignal }) => Promise<McpConnection>;

type Entry = {
  readonly key: SessionKey;
  readonly idleMs: number;
  readonly opening: Promise<McpConnection>;
  /** Ends it before it has begun. */
  readonly stopOpening: AbortController;
  opened: boolean;
  /** Settles when nothing of it is left. */
  readonly gone: Promise<void>;
  active: number;
  usedMs: number;
  /** Takes no more calls, and ends with the last of them. */
  retiring: boolean;
  timer: NodeJS.Timeout | null;
};

export type SessionBounds = { readonly host: number; readonly tenant: number };

const idOf = ({ server, tenant, sessionId }: SessionKey): string => JSON.stringify([server, tenant, sessionId]);

function cancelled(signal: AbortSignal): { promise: Promise<never>; done(): void } {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  const onAbort = (): void => reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return { promise, done: () => signal.removeEventListener('abort', onAbort) };
}

export class SessionPool {
  readonly #bounds: SessionBounds;
  /** All that have not gone, those that retire included. */
  readonly #entries = new Set<Entry>();
  readonly #open = new Map<string, Entry>();
  #closed = false;

  constructor(bounds: SessionBounds = { host: MCP_SESSIONS_MAX, tenant: MCP_SESSIONS_PER_TENANT }) {
    this.#bounds = bounds;
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * Runs one call in the key's conversation, which begins if there is none. When the signal aborts, the server gets a moment to
   * hear of it and is ended then, unless other calls run in it: with the last of them. Throws RESOURCE_EXHAUSTED when all places
   * are taken, what the beginning throws, and what `run` throws.
   */
  async use<T>(
    key: SessionKey,
    { open, idleMs, signal }: { open: OpenSession; idleMs: number; signal: AbortSignal },
    run: (connection: McpConnection) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    const entry = await this.#enter(key, open, idleMs, signal);
    const abort = cancelled(signal);
    try {
      const connection = await Promise.race([entry.opening, abort.promise]);
      return await run(connection);
    } catch (error) {
      if (signal.aborted) {
        this.#retire(entry);
        if (entry.active === 1) await Promise.race([sleep(MCP_CANCEL_GRACE_MS), entry.gone]);
      }
      throw error;
    } finally {
      abort.done();
      await this.#leave(entry);
    }
  }

  /** Ends the idle conversations of a session, with all or some servers; those with calls end with the last of them. */
  async endSession(
    { tenant, sessionId }: Omit<SessionKey, 'server'>,
    isMeant: (server: string) => boolean = () => true,
  ): Promise<void> {
    await this.#endAll((key) => key.tenant === tenant && key.sessionId === sessionId && isMeant(key.server));
  }

  /** The same of a server. */
  async endServer(server: string): Promise<void> {
    await this.#endAll((key) => key.server === server);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#entries].map((entry) => this.#end(entry, 'drain')));
  }

  async #endAll(matches: (key: SessionKey) => boolean): Promise<void> {
    const entries = [...this.#entries].filter(({ key }) => matches(key));
    for (const entry of entries) this.#retire(entry);
    await Promise.all(entries.filter(({ active }) => active === 0).map((entry) => this.#end(entry, 'gentle')));
  }

  async #enter(key: SessionKey, open: OpenSession, idleMs: number, signal: AbortSignal): Promise<Entry> {
    for (;;) {
      if (this.#closed) throw new QuernError('UNAVAILABLE', 'the tool service is stopping', { reason: 'DRAINING' });
      const present = this.#open.get(idOf(key));
      if (present) {
        if (present.timer) clearTimeout(present.timer);
        present.timer = null;
        present.active += 1;
        return present;
      }
      const inTheWay = this.#inTheWayOf(key);
      if (inTheWay === null) return this.#begin(key, open, idleMs);
      await this.#end(inTheWay, 'gentle');
      signal.throwIfAborted();
    }
  }

  /** The idle conversation that must end before this one can begin; null: there is room. */
  #inTheWayOf({ tenant }: SessionKey): Entry | null {
    const all = [...this.#entries];
    const own = all.filter(({ key }) => key.tenant === tenant);
    const among = own.length >= this.#bounds.tenant ? own : all.length >= this.#bounds.host ? all : null;
    if (among === null) return null;
    const [oldest] = among.filter(({ active }) => active === 0).sort((a, b) => a.usedMs - b.usedMs);
    if (oldest) return oldest;
    const whose = among === own ? 'this tenant has' : 'there are';
    const message = `${whose} ${among.length} conversations with MCP servers, all with calls; try again when some have ended`;
    throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'MCP_SESSIONS_FULL' });
  }

  #begin(key: SessionKey, open: OpenSession, idleMs: number): Entry {
    const stopOpening = new AbortController();
    const opening = open({ signal: stopOpening.signal });
    opening.then(
      () => {
        entry.opened = true;
      },
      () => {},
    );
    const gone = opening
      .then(({ ended }) => ended)
      .then(
        () => this.#forget(entry),
        () => this.#forget(entry),
      );
    const entry: Entry = {
      ...{ key, idleMs, opening, stopOpening, gone },
      ...{ opened: false, active: 1, usedMs: performance.now(), retiring: false, timer: null },
    };
    this.#entries.add(entry);
    this.#open.set(idOf(key), entry);
    return entry;
  }

  #forget(entry: Entry): void {
    this.#retire(entry);
    this.#entries.delete(entry);
    if (entry.timer) clearTimeout(entry.timer);
  }

  #retire(entry: Entry): void {
    entry.retiring = true;
    const id = idOf(entry.key);
    if (this.#open.get(id) === entry) this.#open.delete(id);
  }

  async #leave(entry: Entry): Promise<void> {
    entry.active -= 1;
    entry.usedMs = performance.now();
    if (entry.active > 0 || !this.#entries.has(entry)) return;
    const connection = entry.retiring ? null : await entry.opening.catch(() => null);
    if (entry.active > 0) return; // another call came meanwhile
    if (connection === null || connection.isOver || connection.isWorn) {
      await this.#end(entry, 'cancelled');
      return;
    }
    entry.timer = setTimeout(() => void this.#end(entry, 'gentle'), entry.idleMs);
    entry.timer.unref();
  }

  async #end(entry: Entry, how: LinkStop): Promise<void> {
    this.#retire(entry);
    if (entry.timer) clearTimeout(entry.timer);
    // Once it is open the server must not hear that its first requests are cancelled.
    if (!entry.opened) entry.stopOpening.abort(new QuernError('CANCELLED', 'the MCP server was ended'));
    const connection = await entry.opening.catch(() => null);
    await connection?.stop(how);
    await entry.gone;
  }
}
