// One long bidirectional call on a connection of its own, straight over HTTP/2: between the gateway and each tokenizer and engine
// every request's first token waits for messages of such a call, and grpc-js would take a quarter of their time
// (docs/adr/0013-sessions-without-grpc-js.md). Other calls go through client.ts.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type Code, QuernError, throwIfAborted, toQuernError } from '#kit/errors.ts';
import { RPC_GOODBYE_MS, RPC_KEEPALIVE_MS, RPC_KEEPALIVE_TIMEOUT_MS, RPC_MESSAGE_BYTES_MAX } from '#kit/limits.ts';
import { type Address, formatAddress, parseAddress } from './address.ts';
import type { ClientTls } from './client.ts';
import { FrameReader, frameOf } from './frames.ts';
import { fromTrailers } from './status.ts';

export type SessionTarget = {
  /** 'unix:///path' or 'host:port'. */
  address: string;
  sharedToken?: string | undefined;
  /** TCP only; unix sockets are guarded by their folder. */
  tls?: ClientTls | undefined;
};

/** A bidirectional method of a generated service: `EngineServiceService.session`. */
export type SessionMethod<Req, Res> = {
  readonly path: string;
  readonly requestSerialize: (message: Req) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Res;
};

export type SessionListener<Res> = {
  /** What it throws ends the call. */
  onMessage(message: Res): void;
  /** Once, and the last that is heard. Null: the peer ended the call with OK. */
  onEnd(error: QuernError | null): void;
};

/** https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md; all others are UNKNOWN. */
const CODE_OF_HTTP = new Map<number, Code>([
  [400, 'INTERNAL'],
  [401, 'UNAUTHENTICATED'],
  [403, 'PERMISSION_DENIED'],
  [404, 'UNIMPLEMENTED'],
  [429, 'UNAVAILABLE'],
  [502, 'UNAVAILABLE'],
  [503, 'UNAVAILABLE'],
  [504, 'UNAVAILABLE'],
]);

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors; all others are INTERNAL. */
const CODE_OF_RESET = new Map<number, Code>([
  [constants.NGHTTP2_REFUSED_STREAM, 'UNAVAILABLE'],
  [constants.NGHTTP2_CANCEL, 'CANCELLED'],
  [constants.NGHTTP2_ENHANCE_YOUR_CALM, 'RESOURCE_EXHAUSTED'],
  [constants.NGHTTP2_INADEQUATE_SECURITY, 'PERMISSION_DENIED'],
]);

function openConnection(address: Address, tls: ClientTls | undefined): ClientHttp2Session {
  const settings = { maxSessionMemory: Number.MAX_SAFE_INTEGER }; // the callers bound what they send, in messages of any size
  if (address.kind === 'unix')
    return connect('http://localhost', { ...settings, createConnection: () => connectSocket(address.path) });
  const { port } = address;
  const host = address.host.replace(/^\[(.*)\]$/, '$1');
  const endpoint = { host, port, noDelay: true };
  if (!tls) {
    const createConnection = () => connectSocket(endpoint);
    return connect(`http://${formatAddress(address)}`, { ...settings, createConnection });
  }
  const { serverName, ...pem } = tls;
  const names = serverName === undefined ? {} : { servername: serverName };
  const createConnection = () => connectTls({ ...endpoint, ...pem, ...names, ALPNProtocols: ['h2'] });
  return connect(`https://${formatAddress(address)}`, { ...settings, createConnection });
}

/**
 * Invariant: after the last message its listener hears onEnd exactly once, whatever happens first: the peer's status, a broken
 * connection, a peer that answers no ping, cancel() or the signal.
 */
export class SessionCall<Req, Res> {
  readonly #name: string;
  readonly #method: SessionMethod<Req, Res>;
  readonly #listener: SessionListener<Res>;
  readonly #signal: AbortSignal;
  readonly #connection: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #reader = new FrameReader(RPC_MESSAGE_BYTES_MAX);
  readonly #onAbort = (): void => this.#end(toQuernError(this.#signal.reason));
  /** Runs out when the peer does not take the connection or answer a ping; null when neither is asked of it. */
  #patience: NodeJS.Timeout | null = null;
  #pings: NodeJS.Timeout | null = null;
  #httpStatus: number | null = null;
  /** What the trailers said; undefined before them. */
  #status: QuernError | null | undefined;
  #cause: unknown;
  #hasEnded = false;

  /** Opens the connection and the call. Throws the signal's reason when it has aborted, or what a bad certificate makes tls throw. */
  constructor(
    target: SessionTarget,
    method: SessionMethod<Req, Res>,
    { signal, ...listener }: SessionListener<Res> & { signal: AbortSignal },
  ) {
    throwIfAborted(signal);
    const address = parseAddress(target.address);
    this.#name = formatAddress(address);
    this.#method = method;
    this.#listener = listener;
    this.#signal = signal;
    this.#connection = openConnection(address, target.tls);
    this.#stream = this.#connection.request({
      ':method': 'POST',
      ':path': method.path,
      te: 'trailers',
      'content-type': 'application/grpc',
      'user-agent': 'grpc-node-quern',
      ...(target.sharedToken !== undefined && { authorization: `Bearer ${target.sharedToken}` }),
    });
    this.#expect('take the connection');
    this.#watchConnection();
    this.#watchStream();
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** After the call's end it does nothing. Throws RESOURCE_EXHAUSTED for a message that is too large; the call goes on. */
  write(message: Req): void {
    if (this.#hasEnded) return;
    const bytes = this.#method.requestSerialize(message);
    if (bytes.length > RPC_MESSAGE_BYTES_MAX) {
      const limit = `expected a message of at most ${RPC_MESSAGE_BYTES_MAX} bytes, got ${bytes.length}; send less`;
      const text = `${this.#method.path.slice(1)}: ${limit}`;
      throw new QuernError('RESOURCE_EXHAUSTED', text, { reason: 'MESSAGE_TOO_LARGE' });
    }
    this.#stream.write(frameOf(bytes));
  }

  #expect(what: string): void {
    this.#patience = setTimeout(() => {
      const message = `${this.#name} did not ${what} within ${RPC_KEEPALIVE_TIMEOUT_MS} ms; is it running?`;
      this.#end(new QuernError('UNAVAILABLE', message, { reason: 'NOT_CONNECTED' }));
    }, RPC_KEEPALIVE_TIMEOUT_MS).unref();
  }

  #hasCome(): void {
    if (this.#patience) clearTimeout(this.#patience);
    this.#patience = null;
  }

  #watchConnection(): void {
    const connection = this.#connection;
    connection.once('connect', () => {
      this.#hasCome();
      this.#pings = setInterval(() => this.#ping(), RPC_KEEPALIVE_MS).unref();
    });
    connection.on('error', (error) => {
      this.#cause ??= error;
    });
    connection.once('close', () => this.#end(this.#lost()));
  }

  #ping(): void {
    if (this.#connection.destroyed || this.#patience) return;
    this.#expect('answer a ping');
    this.#connection.ping(() => this.#hasCome());
  }

  #watchStream(): void {
    const stream = this.#stream;
    const onFinish = (): void => this.#end(this.#status === undefined ? this.#unsaid() : this.#status);
    stream.once('response', (headers, flags) => {
      this.#httpStatus = headers[':status'] ?? null;
      if (flags & constants.NGHTTP2_FLAG_END_STREAM) this.#status = fromTrailers(headers);
    });
    stream.once('trailers', (trailers) => {
      this.#status = fromTrailers(trailers);
    });
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.once('end', () => setImmediate(onFinish)); // the trailers are told in a later tick than the last data
    stream.on('error', (error) => {
      this.#cause ??= error;
    });
    stream.once('close', onFinish);
  }

  #read(chunk: Buffer): void {
    if (this.#httpStatus !== 200) return; // a proxy's page
    try {
      this.#reader.read(chunk, (message) => {
        if (!this.#hasEnded) this.#listener.onMessage(this.#method.responseDeserialize(message));
      });
    } catch (error) {
      this.#end(toQuernError(error));
    }
  }

  #lost(): QuernError {
    const cause = this.#cause instanceof Error ? `: ${this.#cause.message}` : '';
    const message = `the connection to ${this.#name} is lost${cause}`;
    return new QuernError('UNAVAILABLE', message, { reason: 'NOT_CONNECTED' }, { cause: this.#cause });
  }

  /** The end of a call without a status of gRPC's. */
  #unsaid(): QuernError {
    const { rstCode } = this.#stream;
    const status = this.#httpStatus;
    if (status !== null && status !== 200) {
      const message = `${this.#name}: expected gRPC, got HTTP status ${status}; is the address right?`;
      return new QuernError(CODE_OF_HTTP.get(status) ?? 'UNKNOWN', message, {}, { cause: this.#cause });
    }
    if (this.#connection.destroyed) return this.#lost();
    const message = `${this.#name} ended the call without a status (HTTP/2 code ${rstCode ?? 0})`;
    return new QuernError(CODE_OF_RESET.get(rstCode ?? 0) ?? 'INTERNAL', message, {}, { cause: this.#cause });
  }

  #end(error: QuernError | null): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#hasCome();
    if (this.#pings) clearInterval(this.#pings);
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#leave();
    this.#listener.onEnd(error);
  }

  /** Tells the peer that the call is cancelled, if it is there and does not know. */
  #leave(): void {
    const connection = this.#connection;
    if (connection.connecting || connection.destroyed) {
      connection.destroy();
      return;
    }
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
    const timer = setTimeout(() => connection.destroy(), RPC_GOODBYE_MS).unref();
    connection.once('close', () => clearTimeout(timer));
    connection.close();
  }
}
