// Unary calls and server streams to other services: one channel per address, promises and async iterables, errors as
// QuernError. The long bidirectional calls are session-call.ts.
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  type ClientOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { QuernError, throwIfAborted, toQuernError } from '#kit/errors.ts';
import {
  RPC_KEEPALIVE_MS,
  RPC_KEEPALIVE_TIMEOUT_MS,
  RPC_MESSAGE_BYTES_MAX,
  RPC_RECONNECT_MAX_MS,
  RPC_RECONNECT_MIN_MS,
  RPC_RETRY_BUFFER_BYTES,
  RPC_UNARY_TIMEOUT_MS,
} from '#kit/limits.ts';
import { inject, type SpanSink, type TraceContext } from '#kit/trace.ts';
import { type Address, formatAddress, parseAddress } from './address.ts';
import { endCallSpan, startCallSpan, traceChannel } from './call-span.ts';
import { readMessages } from './incoming.ts';
import { fromServiceError } from './status.ts';

/** PEM texts. cert and key are for mutual TLS; serverName is what the server's certificate says when the address differs. */
export type ClientTls = { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer; serverName?: string };

export type ChannelOptions = {
  /** 'unix:///path' or 'host:port'. */
  address: string;
  sharedToken?: string | undefined;
  /** TCP only; unix sockets are guarded by their folder. */
  tls?: ClientTls | undefined;
  /** grpc-js channel options on top of ours. */
  options?: Partial<ClientOptions>;
  /** Takes a client span of every unary call and server stream that is made with a trace. */
  spans?: SpanSink | undefined;
};

type ClientConstructor<C extends Client> = new (
  address: string,
  credentials: ChannelCredentials,
  options?: Partial<ClientOptions>,
) => C;

const tokens = new WeakMap<Client, string>();

function channelCredentials(address: Address, tls: ClientTls | undefined): ChannelCredentials {
  if (!tls || address.kind === 'unix') return credentials.createInsecure();
  const pem = (text: string | Buffer | undefined): Buffer | null => (text === undefined ? null : Buffer.from(text));
  return credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert));
}

/** Opens a channel (it connects at the first call). The caller closes it with client.close(). */
export function openChannel<C extends Client>(Ctor: ClientConstructor<C>, channel: ChannelOptions): C {
  const address = parseAddress(channel.address);
  const client = new Ctor(formatAddress(address), channelCredentials(address, channel.tls), {
    'grpc.per_rpc_retry_buffer_size': RPC_RETRY_BUFFER_BYTES,
    'grpc.max_receive_message_length': RPC_MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': RPC_MESSAGE_BYTES_MAX,
    'grpc.enable_channelz': 0, // nobody serves it, and it counts every message
    'grpc.keepalive_time_ms': RPC_KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': RPC_KEEPALIVE_TIMEOUT_MS,
    'grpc.initial_reconnect_backoff_ms': RPC_RECONNECT_MIN_MS,
    'grpc.max_reconnect_backoff_ms': RPC_RECONNECT_MAX_MS,
    'grpc.use_local_subchannel_pool': 1, // an own connection per channel: resets and back-off are not shared
    ...(channel.tls?.serverName !== undefined && { 'grpc.ssl_target_name_override': channel.tls.serverName }),
    ...channel.options,
  });
  if (channel.sharedToken !== undefined) tokens.set(client, channel.sharedToken);
  traceChannel(client, channel.spans, address);
  return client;
}

export type StreamCallOptions = {
  signal?: AbortSignal | undefined;
  /** The caller's span; the callee gets a child of it. */
  trace?: TraceContext | undefined;
  requestId?: string | undefined;
  metadata?: Record<string, string> | undefined;
  /** A deadline; streams have none by default. */
  timeoutMs?: number | undefined;
};

/** timeoutMs: default RPC_UNARY_TIMEOUT_MS; null for none. */
export type UnaryCallOptions = Omit<StreamCallOptions, 'timeoutMs'> & { timeoutMs?: number | null | undefined };

type UnaryMethod<Req, Res> = (
  request: Req,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Res) => void,
) => ClientUnaryCall;
type StreamMethod<Req, Res> = (
  request: Req,
  metadata: Metadata,
  options: Partial<CallOptions>,
) => ClientReadableStream<Res>;

type Own<C> = Exclude<keyof C, keyof Client>;
// Inference from an overloaded method takes its last overload, which in generated clients is the fullest one.
type UnaryPair<F> = F extends (
  request: infer Req,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: infer Res) => void,
) => ClientUnaryCall
  ? [Req, Res]
  : never;
type BidiPair<F> = F extends (...args: never[]) => ClientDuplexStream<infer Req, infer Res> ? [Req, Res] : never;
type StreamPair<F> =
  BidiPair<F> extends never
    ? F extends (
        request: infer Req,
        metadata?: Metadata,
        options?: Partial<CallOptions>,
      ) => ClientReadableStream<infer Res>
      ? [Req, Res]
      : never
    : never;
type MethodsOf<C, Kind extends 'unary' | 'stream'> = {
  [K in Own<C>]: (Kind extends 'unary' ? UnaryPair<C[K]> : StreamPair<C[K]>) extends never ? never : K;
}[Own<C>];

export type UnaryMethods<C> = MethodsOf<C, 'unary'>;
export type StreamMethods<C> = MethodsOf<C, 'stream'>;

function callMetadata(
  client: Client,
  options: StreamCallOptions | UnaryCallOptions,
  span: TraceContext | undefined = options.trace,
): Metadata {
  const metadata = new Metadata();
  const token = tokens.get(client);
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  if (options.requestId !== undefined) metadata.set('x-request-id', options.requestId);
  if (span) {
    const { traceparent, tracestate } = inject(span);
    metadata.set('traceparent', traceparent);
    if (tracestate !== undefined) metadata.set('tracestate', tracestate);
  }
  for (const [name, value] of Object.entries(options.metadata ?? {})) metadata.set(name, value);
  return metadata;
}

function callOptions(timeoutMs: number | null | undefined): Partial<CallOptions> {
  return timeoutMs === null || timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

/** The error of a call: the signal's reason when it was our own cancel. */
function callError(thrown: unknown, signal: AbortSignal | undefined): QuernError {
  const error = fromServiceError(thrown);
  return signal?.aborted && error.code === 'CANCELLED' ? toQuernError(signal.reason) : error;
}

/** One request, one answer. An aborted signal cancels the call at the server too. */
export function unary<C extends Client, M extends UnaryMethods<C>>(
  client: C,
  method: M,
  request: UnaryPair<C[M]>[0],
  options: UnaryCallOptions = {},
): Promise<UnaryPair<C[M]>[1]> {
  const { signal, timeoutMs = RPC_UNARY_TIMEOUT_MS } = options;
  return new Promise((resolve, reject) => {
    throwIfAborted(signal);
    const span = startCallSpan(client, method as string, options.trace);
    const start = (client[method] as UnaryMethod<unknown, UnaryPair<C[M]>[1]>).bind(client);
    const metadata = callMetadata(client, options, span?.context ?? options.trace);
    const call = start(request, metadata, callOptions(timeoutMs), (thrown, response) => {
      signal?.removeEventListener('abort', cancel);
      const error = thrown ? callError(thrown, signal) : null;
      endCallSpan(span, error);
      if (error) reject(error);
      else resolve(response);
    });
    const cancel = (): void => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
  });
}

/** Watches a streaming call: its failure, and the signal that cancels it. */
function watchCall(call: ClientReadableStream<unknown>, signal: AbortSignal | undefined) {
  let failed: unknown;
  const cancel = (): void => call.cancel();
  call.on('error', (error: unknown) => {
    failed ??= error;
  });
  call.once('status', () => signal?.removeEventListener('abort', cancel));
  if (signal?.aborted) cancel();
  else signal?.addEventListener('abort', cancel, { once: true });
  return {
    /** Undefined while the call has not failed. */
    failure: () => (failed === undefined ? undefined : callError(failed, signal)),
    cancel() {
      signal?.removeEventListener('abort', cancel);
      call.cancel();
    },
  };
}

/**
 * One request, a stream of answers. The call starts at the first next() and is cancelled when the iteration stops
 * early or the signal aborts. Answers are read as fast as they are taken.
 */
export async function* serverStream<C extends Client, M extends StreamMethods<C>>(
  client: C,
  method: M,
  request: StreamPair<C[M]>[0],
  options: StreamCallOptions = {},
): AsyncGenerator<StreamPair<C[M]>[1], void, undefined> {
  const { signal, timeoutMs } = options;
  throwIfAborted(signal);
  const span = startCallSpan(client, method as string, options.trace);
  const start = (client[method] as StreamMethod<unknown, StreamPair<C[M]>[1]>).bind(client);
  const metadata = callMetadata(client, options, span?.context ?? options.trace);
  const call = start(request, metadata, callOptions(timeoutMs));
  const watch = watchCall(call, signal);
  let ended: unknown = new QuernError('CANCELLED', 'the iteration stopped early');
  try {
    yield* readMessages<StreamPair<C[M]>[1]>(call, { signal, failure: watch.failure });
    ended = null;
  } catch (error) {
    ended = error;
    throw error;
  } finally {
    watch.cancel(); // no effect once the status has come
    endCallSpan(span, ended);
  }
}

/** Waits until the channel is connected. Throws UNAVAILABLE, reason NOT_CONNECTED. */
export function waitForReady(client: Client, options: { timeoutMs: number; signal?: AbortSignal }): Promise<void> {
  const { timeoutMs, signal } = options;
  return new Promise((resolve, reject) => {
    throwIfAborted(signal);
    const onAbort = (): void => reject(toQuernError(signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    client.waitForReady(Date.now() + timeoutMs, (cause) => {
      signal?.removeEventListener('abort', onAbort);
      if (!cause) {
        resolve();
        return;
      }
      const message = `${client.getChannel().getTarget()} did not answer within ${timeoutMs} ms; is it running?`;
      reject(new QuernError('UNAVAILABLE', message, { reason: 'NOT_CONNECTED' }, { cause }));
    });
  });
}
