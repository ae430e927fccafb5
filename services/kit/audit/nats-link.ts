// The connection to NATS: kept up for ever in the background; whoever needs it while it is away hears UNAVAILABLE at once.
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, connect, type NatsConnection } from '@nats-io/transport-node';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { NATS_RECONNECT_MS, NATS_VERSION_MIN } from './limits.ts';

export type NatsLinkOptions = {
  /** 'nats://host:port', several separated by commas. */
  servers: string;
  /** "gateway": shown in the server's connection list. */
  name: string;
  log: Log;
  /** Credentials and TLS, as the client library takes them. */
  auth?: Pick<ConnectionOptions, 'user' | 'pass' | 'token' | 'authenticator' | 'tls'>;
};

/** Negative, 0 or positive as dotted version `a` is older than, equal to or newer than `b`. */
function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split('-')[0]!.split('.').map(Number));
  for (let i = 0; i < 3; i += 1) {
    const difference = (left![i] ?? 0) - (right![i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Throws FAILED_PRECONDITION for a server whose stream could lose or rewrite what it acknowledged. */
export function checkServerVersion(version: string): void {
  if (compareVersions(version, NATS_VERSION_MIN) >= 0) return;
  const message =
    `nats-server ${version}: expected ${NATS_VERSION_MIN} or newer, because older ones take a damaged snapshot for an orphaned ` +
    'stream and delete it; install a current release (distribution packages are too old)';
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'NATS_TOO_OLD' });
}

export class NatsLink {
  readonly #options: NatsLinkOptions;
  readonly #stop = new AbortController();
  #connection: NatsConnection | null = null;
  #loop: Promise<void> | null = null;
  #problem = 'not connected yet';

  constructor(options: NatsLinkOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#keep();
  }

  /** Why there is no connection; null while there is one. */
  get problem(): string | null {
    return this.#connection && !this.#connection.isClosed() ? null : this.#problem;
  }

  /** The connection, which may be reconnecting. Throws UNAVAILABLE when there is none. */
  get(): NatsConnection {
    if (this.#connection && !this.#connection.isClosed()) return this.#connection;
    const message = `NATS at ${this.#options.servers}: ${this.#problem}`;
    throw new QuernError('UNAVAILABLE', message, { reason: 'NATS_UNAVAILABLE' });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#connection?.close();
    await this.#loop;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#connectOnce().catch((error: Error) => this.#failed(error));
      await sleep(NATS_RECONNECT_MS, undefined, { signal }).catch(() => {});
    }
  }

  #failed(error: Error): void {
    const { log, servers } = this.#options;
    if (error.message !== this.#problem) log.warn({ servers, err: error }, 'no connection to NATS');
    this.#problem = error.message;
  }

  /** One connection from its first handshake to its end; the library reconnects inside it. */
  async #connectOnce(): Promise<void> {
    const { servers, name, log, auth } = this.#options;
    const connection = await connect({
      ...auth,
      servers: servers.split(','),
      name,
      maxReconnectAttempts: -1,
      reconnectTimeWait: NATS_RECONNECT_MS,
      reconnectJitter: NATS_RECONNECT_MS,
      waitOnFirstConnect: false,
      pingInterval: 5_000,
    });
    if (this.#stop.signal.aborted) return connection.close();
    const { version = '0' } = connection.info ?? {};
    try {
      checkServerVersion(version);
    } catch (error) {
      await connection.close();
      throw error;
    }
    this.#connection = connection;
    log.info({ server: connection.getServer(), version }, 'connected to NATS');
    void this.#report(connection);
    const cause = await connection.closed();
    this.#connection = null;
    this.#problem = cause ? cause.message : 'the connection was closed';
  }

  async #report(connection: NatsConnection): Promise<void> {
    const { log } = this.#options;
    for await (const status of connection.status()) {
      if (status.type === 'disconnect') log.warn({ server: status.server }, 'connection to NATS lost; reconnecting');
      if (status.type === 'reconnect') log.info({ server: status.server }, 'connected to NATS again');
    }
  }
}
