// The connection to NATS: kept up for ever in the background; whoever needs it while it is away hears UNAVAILABLE at once.
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, connect, type NatsConnection } from '@nats-io/transport-node';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { NATS_RECONNECT_MS } from './limits.ts';
import { type NatsAddress, parseNatsAddress } from './nats-address.ts';
import { checkServerVersion } from './nats-version.ts';

export type NatsLinkOptions = {
  /** 'nats://user:password@host:port', several separated by commas; credentials are kept out of logs and messages. */
  servers: string;
  /** "gateway": shown in the server's connection list. */
  name: string;
  log: Log;
  /** Other credentials, and TLS, as the client library takes them. */
  auth?: Pick<ConnectionOptions, 'user' | 'pass' | 'token' | 'authenticator' | 'tls'>;
};

export class NatsLink {
  readonly #options: NatsLinkOptions;
  readonly #address: NatsAddress;
  readonly #stop = new AbortController();
  #connection: NatsConnection | null = null;
  #loop: Promise<void> | null = null;
  #problem = 'not connected yet';

  /** Throws INVALID_ARGUMENT when an address is malformed. */
  constructor(options: NatsLinkOptions) {
    this.#options = options;
    this.#address = parseNatsAddress(options.servers);
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
    const message = `NATS at ${this.#address.shown}: ${this.#problem}`;
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
    const { log } = this.#options;
    const servers = this.#address.shown;
    if (error.message !== this.#problem) log.warn({ servers, err: error }, 'no connection to NATS');
    this.#problem = error.message;
  }

  /** One connection from its first handshake to its end; the library reconnects inside it. */
  async #connectOnce(): Promise<void> {
    const { name, log, auth } = this.#options;
    const connection = await connect({
      ...this.#address.auth,
      ...auth,
      servers: this.#address.servers,
      name,
      inboxPrefix: `_INBOX.${name}`, // deploy/nats/nats.conf lets a client hear its own answers only
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
