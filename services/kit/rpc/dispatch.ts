// From grpc-js's call objects to plain handlers. What a handler throws becomes the one final status; after a client's
// cancel it only ends the log line.
import type { sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import { QuernError } from '#kit/errors.ts';
import { LiveMap } from '#kit/live-map.ts';
import type { Log } from '#kit/log.ts';
import { type Metrics, RPC_BUCKETS_SECONDS } from '#kit/metrics.ts';
import type { SpanSink } from '#kit/trace.ts';
import { ActiveCall, type CallScope } from './active-call.ts';
import { readMessages } from './incoming.ts';
import { createOut } from './out.ts';
import type { ResetMeter } from './reset-meter.ts';
import type { CallContext, MethodDefinition, RegisteredMethod, ServiceRegistration } from './service.ts';
import type { Duplex, Unary, Writable } from './surface.ts';

export type DispatchOptions = {
  log: Log;
  metrics: Metrics;
  meter: ResetMeter;
  requireDeadline: boolean;
  maxMessageBytes: number;
  authenticate: CallScope['authenticate'];
  spans: SpanSink;
  authorizeSpan: string | null;
};

export type Dispatcher = {
  implementation(service: ServiceRegistration): UntypedServiceImplementation;
  /** Refuses new calls with UNAVAILABLE and a retry hint (health goes on). */
  refuseNew(): void;
  /** Resolves when no call but background ones runs, or when the signal aborts. */
  idle(signal: AbortSignal): Promise<void>;
  /** Aborts every call but background ones; with `background`, those too. */
  abortAll(reason: QuernError, options?: { background: boolean }): void;
};

/** Made once: an error per call would cost a stack trace each. */
const CALL_ENDED = new QuernError('CANCELLED', 'the call has ended');

/** What a request that does not decode becomes; grpc-js itself would answer INTERNAL. */
class Malformed {
  readonly cause: unknown;
  constructor(cause: unknown) {
    this.cause = cause;
  }
}

/** Method definitions for grpc-js: requests that do not decode reach us as Malformed, answers come encoded. */
export function wireDefinition(service: ServiceRegistration): Record<string, MethodDefinition> {
  const entries = service.methods.map(({ definition }): [string, MethodDefinition] => [
    definition.path,
    {
      ...definition,
      requestDeserialize(bytes: Buffer) {
        try {
          return definition.requestDeserialize(bytes);
        } catch (cause) {
          return new Malformed(cause);
        }
      },
      responseSerialize: (encoded: Buffer) => encoded,
    },
  ]);
  return Object.fromEntries(entries);
}

function checkRequest(request: unknown, method: string): unknown {
  if (!(request instanceof Malformed)) return request;
  const message = `${method}: the request is not a valid protobuf message of this method; check the proto version`;
  throw new QuernError('INVALID_ARGUMENT', message, { reason: 'MALFORMED_REQUEST' }, { cause: request.cause });
}

async function* checkRequests(
  surface: Duplex,
  method: string,
  signal: AbortSignal,
): AsyncGenerator<unknown, void, undefined> {
  for await (const request of readMessages<unknown>(surface, { signal })) yield checkRequest(request, method);
}

function encoder(method: RegisteredMethod, maxBytes: number): (message: unknown) => Buffer {
  const { path, responseSerialize } = method.definition;
  return (message) => {
    const encoded = responseSerialize(message as never);
    if (encoded.length <= maxBytes) return encoded;
    const text = `${path.slice(1)}: an answer of ${encoded.length} bytes exceeds the limit of ${maxBytes}; ask for less`;
    throw new QuernError('RESOURCE_EXHAUSTED', text, { reason: 'MESSAGE_TOO_LARGE' });
  };
}

function checkDeadline(context: CallContext): void {
  if (context.deadlineUnixMs !== null) return;
  const message = `${context.method}: a deadline is required on unary calls between services; set a timeout`;
  throw new QuernError('INVALID_ARGUMENT', message, { reason: 'DEADLINE_REQUIRED' });
}

/** null stands for "returned", so a handler that throws null throws this instead. */
function thrownValue(thrown: unknown): unknown {
  return thrown ?? new Error('a handler threw nothing');
}

function unaryHandler(
  scope: CallScope,
  service: ServiceRegistration,
  method: RegisteredMethod,
  options: DispatchOptions,
) {
  const name = method.definition.path.slice(1);
  const encode = encoder(method, options.maxMessageBytes);
  const handler = method.handler as (request: unknown, call: CallContext) => unknown;
  const needsDeadline = options.requireDeadline && !service.open;
  return async (surface: Unary, callback: sendUnaryData<Buffer>): Promise<void> => {
    const call = new ActiveCall(scope, surface, name, service);
    let encoded: Buffer | null = null;
    let thrown: unknown = null;
    try {
      if (needsDeadline) checkDeadline(call.context);
      await call.admit();
      encoded = encode(await handler(checkRequest(surface.request, name), call.context));
    } catch (error) {
      thrown = thrownValue(error);
    }
    const error = call.settle(thrown);
    if (error === undefined) return;
    if (error) {
      callback(call.failure(error));
      return;
    }
    call.sendInitial();
    callback(null, encoded, call.trailers);
  };
}

function streamHandler(
  scope: CallScope,
  service: ServiceRegistration,
  method: RegisteredMethod,
  options: DispatchOptions,
) {
  const { path, requestStream } = method.definition;
  const name = path.slice(1);
  const encode = encoder(method, options.maxMessageBytes);
  const handler = method.handler as (input: unknown, call: CallContext, out: unknown) => Promise<void>;
  return async (surface: Writable | Duplex): Promise<void> => {
    const call = new ActiveCall(scope, surface, name, service);
    const { signal } = call.context;
    // Not before: headers of their own wake the client while the request still is on its way to the tokenizer and the engine.
    const encodeMessage = (message: unknown): Buffer => {
      const encoded = encode(message);
      call.sendInitial();
      return encoded;
    };
    const out = createOut<unknown>(surface, encodeMessage, signal);
    surface.once('cancelled', () => out.close(signal.reason));
    let thrown: unknown = null;
    try {
      await call.admit();
      if (requestStream) call.sendInitial(); // who writes may wait to hear that somebody reads
      const input = requestStream
        ? checkRequests(surface as Duplex, name, signal)
        : checkRequest((surface as Writable).request, name);
      await handler(input, call.context, out);
    } catch (error) {
      thrown = thrownValue(error);
    }
    const error = call.settle(thrown);
    out.close(error ?? CALL_ENDED);
    if (error === undefined) return;
    if (error) {
      surface.emit('error', call.failure(error));
      return;
    }
    call.sendInitial();
    surface.end(call.trailers);
  };
}

function createScope(options: DispatchOptions, onEnd: () => void): CallScope {
  const { log, metrics, meter, authenticate, spans, authorizeSpan } = options;
  return {
    log,
    meter,
    authenticate,
    spans,
    authorizeSpan,
    onEnd,
    running: new LiveMap(),
    refusing: false,
    durations: metrics.histogram({
      name: 'quern_rpc_server_duration_seconds',
      help: 'Time from the arrival of a call to its end, by method and status code',
      labels: ['method', 'code'],
      buckets: RPC_BUCKETS_SECONDS,
    }),
    inFlight: metrics.gauge({
      name: 'quern_rpc_server_calls_running',
      help: 'Calls that have arrived and not ended, by method',
      labels: ['method'],
    }),
  };
}

export function createDispatcher(options: DispatchOptions): Dispatcher {
  const idleWaiters = new Set<() => void>();
  const scope = createScope(options, () => {
    if (idleWaiters.size > 0 && foreground() === 0) for (const wake of idleWaiters) wake();
  });

  function foreground(): number {
    let count = 0;
    for (const call of scope.running.values()) if (!call.background) count += 1;
    return count;
  }

  return {
    implementation(service) {
      const entries = service.methods.map((method) => [
        method.definition.path,
        (method.definition.responseStream ? streamHandler : unaryHandler)(scope, service, method, options),
      ]);
      return Object.fromEntries(entries) as UntypedServiceImplementation;
    },
    refuseNew() {
      scope.refusing = true;
    },
    idle(signal) {
      if (foreground() === 0 || signal.aborted) return Promise.resolve();
      return new Promise((resolve) => {
        const done = (): void => {
          signal.removeEventListener('abort', done);
          idleWaiters.delete(done);
          resolve();
        };
        signal.addEventListener('abort', done, { once: true });
        idleWaiters.add(done);
      });
    },
    abortAll(reason, { background } = { background: false }) {
      for (const call of scope.running.values()) if (background || !call.background) call.abort(reason);
    },
  };
}
