// From grpc-js's call objects to plain handlers: admission, principal, context, one final status, one log line, one
// observation. What a handler throws becomes that status; after a client's cancel it only ends the log line.
import type { EventEmitter } from 'node:events';
import {
  Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { type Code, QuernError, toQuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { REQUEST_ID_CHARS_MAX, RPC_DEADLINE_SLACK_MS, RPC_DRAIN_RETRY_MS } from '#kit/limits.ts';
import type { Log } from '#kit/log.ts';
import { type Metrics, RPC_BUCKETS_SECONDS } from '#kit/metrics.ts';
import { localPrincipal, type Principal, principalKey } from '#kit/principal.ts';
import { child, extract, startTrace } from '#kit/trace.ts';
import { readMessages } from './incoming.ts';
import { createOut } from './out.ts';
import type { ResetMeter } from './reset-meter.ts';
import type { CallContext, MethodDefinition, RegisteredMethod, ServiceRegistration } from './service.ts';
import { toServiceError } from './status.ts';

type Unary = ServerUnaryCall<unknown, Buffer>;
type Writable = ServerWritableStream<unknown, Buffer>;
type Duplex = ServerDuplexStream<unknown, Buffer>;
type Surface = Unary | Writable | Duplex;

/** The three kinds of call as what they share; their own overloads of once() do not unite. */
function events(surface: Surface): EventEmitter {
  return surface;
}

/** What a request that does not decode becomes; grpc-js itself would answer INTERNAL. */
class Malformed {
  readonly cause: unknown;
  constructor(cause: unknown) {
    this.cause = cause;
  }
}

export type DispatchOptions = {
  log: Log;
  metrics: Metrics;
  meter: ResetMeter;
  requireDeadline: boolean;
  maxMessageBytes: number;
  authenticate(surface: Surface, peer: string): Principal | Promise<Principal>;
};

/** One running call, as the drain sees it. */
type Running = { abort(reason: QuernError): void; background: boolean };

export type Dispatcher = {
  implementation(service: ServiceRegistration): UntypedServiceImplementation;
  /** Refuses new calls with UNAVAILABLE and a retry hint (health goes on). */
  refuseNew(): void;
  /** Resolves when no call but background ones runs, or when the signal aborts. */
  idle(signal: AbortSignal): Promise<void>;
  /** Aborts every call but background ones; with `background`, those too. */
  abortAll(reason: QuernError, options?: { background: boolean }): void;
  readonly running: number;
};

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

function encoder(method: RegisteredMethod, maxBytes: number): (message: unknown) => Buffer {
  const { path, responseSerialize } = method.definition;
  return (message) => {
    const encoded = responseSerialize(message as never);
    if (encoded.length <= maxBytes) return encoded;
    const text = `${path.slice(1)}: an answer of ${encoded.length} bytes exceeds the limit of ${maxBytes}; ask for less`;
    throw new QuernError('RESOURCE_EXHAUSTED', text, { reason: 'MESSAGE_TOO_LARGE' });
  };
}

const connectionIds = new WeakMap<object, number>();
let connections = 0;

/** One name per connection. Unix sockets have no address, so the HTTP/2 session, which grpc-js keeps private, is numbered. */
export function peerOf(surface: Surface): string {
  const address = surface.getPeer();
  if (address !== 'unknown') return address;
  const session = (surface as unknown as { call?: { stream?: { session?: object } } }).call?.stream?.session;
  if (!session) return 'unix';
  let id = connectionIds.get(session);
  if (id === undefined) {
    connections += 1;
    id = connections;
    connectionIds.set(session, id);
  }
  return `unix#${id}`;
}

function header(surface: Surface, name: string): string | undefined {
  const value = surface.metadata.get(name)[0];
  return value === undefined ? undefined : value.toString();
}

function deadlineOf(surface: Surface): number | null {
  const deadline = surface.getDeadline();
  const unixMs = typeof deadline === 'number' ? deadline : deadline.getTime();
  return Number.isFinite(unixMs) ? unixMs : null;
}

/** Whether a reset that comes now is the passed deadline of a call that arrived then. */
function isExpired(deadlineUnixMs: number | null, arrivedUnixMs: number): boolean {
  if (deadlineUnixMs === null) return false;
  const slackMs = Math.min(RPC_DEADLINE_SLACK_MS, (deadlineUnixMs - arrivedUnixMs) / 4);
  return Date.now() >= deadlineUnixMs - slackMs;
}

function requestIdOf(surface: Surface): string {
  const given = header(surface, 'x-request-id');
  return given && given.length <= REQUEST_ID_CHARS_MAX && /^[\x21-\x7e]+$/.test(given) ? given : uuidv7();
}

/** Callers known by a key share one meter over all their connections; the local person and services have one per connection. */
function meterKeyOf(principal: Principal, peer: string): string {
  const anonymous = principal.role === 'service' || principal.keyId === localPrincipal.keyId;
  return anonymous ? peer : principalKey(principal);
}

/** Our own faults are errors in the log; what callers did is information. */
const FAULTS: ReadonlySet<Code> = new Set(['INTERNAL', 'UNKNOWN', 'DATA_LOSS']);

export function createDispatcher(options: DispatchOptions): Dispatcher {
  const { log, metrics, meter } = options;
  const durations = metrics.histogram({
    name: 'quern_rpc_server_duration_seconds',
    help: 'Time from the arrival of a call to its end, by method and status code',
    labels: ['method', 'code'],
    buckets: RPC_BUCKETS_SECONDS,
  });
  const inFlight = metrics.gauge({
    name: 'quern_rpc_server_calls_running',
    help: 'Calls that have arrived and not ended, by method',
    labels: ['method'],
  });
  const running = new Set<Running>();
  const idleWaiters = new Set<() => void>();
  let refusing = false;

  function foreground(): number {
    let count = 0;
    for (const call of running) if (!call.background) count += 1;
    return count;
  }

  /** Everything one call needs, from its arrival to its one end. */
  function arrive(surface: Surface, method: string, service: ServiceRegistration) {
    const controller = new AbortController();
    const trailers = new Metadata();
    const peer = peerOf(surface);
    const requestId = requestIdOf(surface);
    const deadlineUnixMs = deadlineOf(surface);
    const parent = extract(header(surface, 'traceparent'), header(surface, 'tracestate'));
    const startedMs = performance.now();
    const arrivedUnixMs = Date.now();
    let principal: Principal = localPrincipal;
    let meterKey = peer;
    let answered = false;
    const entry: Running = { abort: (reason) => controller.abort(reason), background: service.background };
    running.add(entry);
    inFlight.inc({ method });

    events(surface).once('cancelled', () => {
      if (answered) return; // grpc-js says 'cancelled' after a normal end too
      answered = true;
      meter.charge(meterKey);
      const reason = isExpired(deadlineUnixMs, arrivedUnixMs)
        ? new QuernError('DEADLINE_EXCEEDED', 'the deadline of the call passed')
        : new QuernError('CANCELLED', 'the caller cancelled or went away');
      controller.abort(reason);
    });

    const context: CallContext = {
      method,
      requestId,
      signal: controller.signal,
      deadlineUnixMs,
      get principal() {
        return principal;
      },
      trace: parent ? child(parent) : startTrace(),
      peer,
      metadata: { get: (name) => header(surface, name) },
      setTrailer: (name, value) => trailers.set(name, value),
    };

    async function admit(): Promise<void> {
      if (service.open) return;
      if (refusing) {
        trailers.set('grpc-retry-pushback-ms', String(RPC_DRAIN_RETRY_MS));
        const details = { reason: 'DRAINING', retryAfterMs: RPC_DRAIN_RETRY_MS };
        throw new QuernError('UNAVAILABLE', 'this server is stopping; retry, another one may answer', details);
      }
      principal = await options.authenticate(surface, peer);
      meterKey = meterKeyOf(principal, peer);
      const retryAfterMs = meter.waitMs(meterKey);
      if (retryAfterMs > 0) {
        const message = 'too many calls were cancelled in a short time; cancel less often or spread them over time';
        throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'RESET_LIMIT', retryAfterMs });
      }
    }

    /** The status that counts, given what the handler threw (null: it returned). */
    function verdict(thrown: unknown): QuernError | null {
      const { signal } = controller;
      if (answered) return toQuernError(signal.reason); // the caller is gone, whatever the handler did
      if (thrown === null) return null;
      const error = toQuernError(thrown);
      return signal.aborted && error.code === 'CANCELLED' ? toQuernError(signal.reason) : error;
    }

    /** Called once, when the handler is done. Answers the error to send, null for OK, undefined when nobody listens. */
    function settle(thrown: unknown): QuernError | null | undefined {
      const error = verdict(thrown);
      const mute = answered;
      answered = true;
      trailers.set('x-request-id', requestId);
      running.delete(entry);
      inFlight.dec({ method });
      const durationMs = performance.now() - startedMs;
      const code = error?.code ?? 'OK';
      durations.observe(durationMs / 1000, { method, code });
      writeLine(error, code, durationMs);
      if (foreground() === 0) for (const wake of idleWaiters) wake();
      return mute ? undefined : error;
    }

    function writeLine(error: QuernError | null, code: Code | 'OK', durationMs: number): void {
      const fields = {
        method,
        code,
        duration_ms: Math.round(durationMs * 1000) / 1000,
        request_id: requestId,
        trace_id: context.trace.traceId,
        tenant: principal.tenant,
        user: principal.user,
        peer,
        ...(error && { reason: error.details.reason, error: error.message }),
        ...(error && FAULTS.has(error.code) && { err: error.cause ?? error }),
      };
      if (error && FAULTS.has(error.code)) log.error(fields, 'rpc');
      else if (service.open) log.debug(fields, 'rpc');
      else log.info(fields, 'rpc');
    }

    function sendInitial(): void {
      const metadata = new Metadata();
      metadata.set('x-request-id', requestId);
      surface.sendMetadata(metadata);
    }

    function failure(error: QuernError) {
      const serviceError = toServiceError(error);
      serviceError.metadata.merge(trailers);
      return serviceError;
    }

    return { context, admit, settle, sendInitial, failure, trailers };
  }

  function requireDeadline(context: CallContext): void {
    if (!options.requireDeadline || context.deadlineUnixMs !== null) return;
    const message = `${context.method}: a deadline is required on unary calls between services; set a timeout`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'DEADLINE_REQUIRED' });
  }

  function unaryHandler(service: ServiceRegistration, method: RegisteredMethod) {
    const name = method.definition.path.slice(1);
    const encode = encoder(method, options.maxMessageBytes);
    const handler = method.handler as (request: unknown, call: CallContext) => unknown;
    return async (surface: Unary, callback: sendUnaryData<Buffer>): Promise<void> => {
      const call = arrive(surface, name, service);
      let encoded: Buffer | null = null;
      let thrown: unknown = null;
      try {
        if (!service.open) requireDeadline(call.context);
        await call.admit();
        encoded = encode(await handler(checkRequest(surface.request, name), call.context));
      } catch (error) {
        thrown = error ?? new Error('a handler threw nothing');
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

  function streamHandler(service: ServiceRegistration, method: RegisteredMethod) {
    const { path, requestStream } = method.definition;
    const name = path.slice(1);
    const encode = encoder(method, options.maxMessageBytes);
    const handler = method.handler as (input: unknown, call: CallContext, out: unknown) => Promise<void>;
    return async (surface: Writable | Duplex): Promise<void> => {
      const call = arrive(surface, name, service);
      const out = createOut<unknown>(surface, encode, call.context.signal);
      surface.once('cancelled', () => out.close(call.context.signal.reason));
      let thrown: unknown = null;
      try {
        await call.admit();
        call.sendInitial();
        const input = requestStream
          ? incoming(surface as Duplex, name, call.context.signal)
          : checkRequest((surface as Writable).request, name);
        await handler(input, call.context, out);
      } catch (error) {
        thrown = error ?? new Error('a handler threw nothing');
      }
      const error = call.settle(thrown);
      out.close(error ?? new QuernError('CANCELLED', 'the call has ended'));
      if (error === undefined) return;
      if (error) surface.emit('error', call.failure(error));
      else surface.end(call.trailers);
    };
  }

  return {
    implementation(service) {
      const entries = service.methods.map((method) => [
        method.definition.path,
        method.definition.responseStream ? streamHandler(service, method) : unaryHandler(service, method),
      ]);
      return Object.fromEntries(entries) as UntypedServiceImplementation;
    },
    refuseNew() {
      refusing = true;
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
      for (const call of running) if (background || !call.background) call.abort(reason);
    },
    get running() {
      return running.size;
    },
  };
}

async function* incoming(
  surface: Duplex,
  method: string,
  signal: AbortSignal,
): AsyncGenerator<unknown, void, undefined> {
  for await (const request of readMessages<unknown>(surface, { signal })) yield checkRequest(request, method);
}
