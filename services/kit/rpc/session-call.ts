// One long bidirectional call on a connection of its own, straight over HTTP/2: between the gateway and each tokenizer and engine
// every request's first token waits for messages of such a call, and grpc-js would take a quarter of their time
// (docs/adr/0013-sessions-without-grpc-js.md). Other calls go through client.ts.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { connect as connectSocket, isIP, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { type Code, QuernError, throwIfAborted, toQuernError } from '#kit/errors.ts';
import {
  RPC_GOODBYE_MS,
  RPC_KEEPALIVE_MS,
  RPC_KEEPALIVE_TIMEOUT_MS,
  RPC_MESSAGE_BYTES_MAX,
  RPC_STREAM_UNSENT_BYTES_MAX,
} from '#kit/limits.ts';
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

const GRPC_TYPE = 'application/grpc';

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

/** The socket of a connection that is being made. */
function openSocket(address: Address, tls: ClientTls | undefined): Socket {
  if (address.kind === 'unix') return connectSocket(address.path);
  const host = address.host.replace(/^\[(.*)\]$/, '$1');
  const endpoint = { host, port: address.port, noDelay: true };
  if (!tls) return connectSocket(endpoint);
  const { serverName, ...pem } = tls;
  const servername = serverName ?? (isIP(host) ? undefined : host); // of an address there is no name to ask for
  return connectTls({ ...endpoint, ...pem, ...(servername !== undefined && { servername }), ALPNProtocols: ['h2'] });
}

function openConnection(address: Address, socket: Socket): ClientHttp2Session {
  const authority = address.kind === 'unix' ? 'localhost' : formatAddress(address);
  return connect(`${socket instanceof TLSSocket ? 'https' : 'http'}://${authority}`, {
    createConnection: () => socket,
    maxSessionMemory: Number.MAX_SAFE_INTEGER, // what waits unsent is bounded by write()
  });
}

/**
 * Invariant: after the last message its listener hears onEnd exactly once, whatever happens first: the peer's status, a broken
 * connection, a peer that answers no ping or reads nothing, a listener that throws, or the signal.
 */
export class SessionCall<Req, Res> {
  readonly #name: string;
  readonly #method: SessionMethod<Req, Res>;
  readonly #listener: SessionListener<Res>;
  readonly #signal: AbortSignal;
  readonly #socket: Socket;
  readonly #connection: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #reader = new FrameReader(RPC_MESSAGE_BYTES_MAX);
  readonly #onAbort = (): void => this.#end(toQuernError(this.#signal.reason));
  /** Runs out when the peer does not take the connection or answer a ping; null when neither is asked of it. */
  #patience: NodeJS.Timeout | null = null;
  #pings: NodeJS.Timeout | null = null;
  #answer: { status: number | null; type: string; isGrpc: boolean } | null = null;
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
    this.#socket = openSocket(address, target.tls);
    this.#connection = openConnection(address, this.#socket);
    this.#stream = this.#connection.request({
      ':method': 'POST',
      ':path': method.path,
      te: 'trailers',
      'content-type': GRPC_TYPE,
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
    const { writableLength } = this.#stream;
    if (writableLength <= RPC_STREAM_UNSENT_BYTES_MAX) return;
    const text = `${this.#name} does not read: ${writableLength} bytes wait unsent`;
    this.#end(new QuernError('UNAVAILABLE', text, { reason: 'SLOW_READER' }));
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
      if (this.#hasEnded) return;
      this.#hasCome();
      this.#pings = setInterval(() => this.#ping(), RPC_KEEPALIVE_MS).unref();
    });
    connection.on('error', (error) => {
      this.#cause ??= error;
    });
    connection.once('close', () => this.#finish());
  }

  #ping(): void {
    if (this.#connection.destroyed || this.#patience) return;
    if (this.#connection.closed) {
      this.#expect('end the call after its goodbye'); // it has said GOAWAY: no ping is sent any more
      return;
    }
    this.#expect('answer a ping');
    this.#connection.ping((error) => {
      if (!error) this.#hasCome();
    });
  }

  #watchStream(): void {
    const stream = this.#stream;
    const onFinish = (): void => this.#finish();
    stream.once('response', (headers, flags) => {
      const { ':status': status = null, 'content-type': type = GRPC_TYPE } = headers;
      this.#answer = { status, type, isGrpc: status === 200 && type.startsWith(GRPC_TYPE) };
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

  #finish(): void {
    if (this.#status === undefined) this.#end(this.#unsaid());
    else if (this.#status === null && !this.#reader.isEmpty) this.#end(this.#torn());
    else this.#end(this.#status);
  }

  #read(chunk: Buffer): void {
    if (!this.#answer?.isGrpc) return; // a proxy's page
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
    if (this.#answer && !this.#answer.isGrpc) {
      const { status, type } = this.#answer;
      const message = `${this.#name}: expected gRPC, got HTTP status ${status} and ${type}; is the address right?`;
      return new QuernError(CODE_OF_HTTP.get(status ?? 0) ?? 'UNKNOWN', message, {}, { cause: this.#cause });
    }
    if (this.#connection.destroyed) return this.#lost();
    const message = `${this.#name} ended the call without a status (HTTP/2 code ${rstCode ?? 0})`;
    return new QuernError(CODE_OF_RESET.get(rstCode ?? 0) ?? 'INTERNAL', message, {}, { cause: this.#cause });
  }

  #torn(): QuernError {
    const message = `${this.#name} ended the call with OK within a message`;
    return new QuernError('INTERNAL', message, { reason: 'TORN_MESSAGE' });
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

  /**
   * Tells the peer that the call is cancelled, if it is there and does not know. An HTTP/2 session that is closed or destroyed waits for
   * its peer's end of the connection, which may never come: the socket is cut.
   */
  #leave(): void {
    const connection = this.#connection;
    const socket = this.#socket;
    if (connection.connecting || connection.destroyed) {
      connection.destroy();
      socket.destroy();
      return;
    }
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
    const timer = setTimeout(() => socket.destroy(), RPC_GOODBYE_MS).unref();
    socket.once('close', () => clearTimeout(timer));
    connection.close();
  }
}
