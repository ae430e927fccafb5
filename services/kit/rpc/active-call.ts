// One call from its arrival to its one end: signal, principal, context, verdict, log line, observation.
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { type Code, QuernError, toQuernError } from '#kit/errors.ts';
import { RPC_DEADLINE_SLACK_MS, RPC_DRAIN_RETRY_MS } from '#kit/limits.ts';
import type { LiveMap } from '#kit/live-map.ts';
import type { Log } from '#kit/log.ts';
import type { GaugeMetric, HistogramMetric } from '#kit/metrics.ts';
import { localPrincipal, type Principal, principalKey, strangerPrincipal } from '#kit/principal.ts';
import {
  ATTR_AUTH_DECISION,
  ATTR_KEY_ID,
  ATTR_REASON,
  ATTR_REQUEST_ID,
  ATTR_TENANT,
  ERROR_TYPE,
  RPC_METHOD,
  RPC_STATUS_CODE,
  RPC_SYSTEM_NAME,
  serverFault,
} from '#kit/semconv.ts';
import {
  extract,
  noSpans,
  nowUnixNs,
  type Span,
  type SpanSink,
  startRemoteSpan,
  startSpan,
  type TraceContext,
} from '#kit/trace.ts';
import type { ResetMeter } from './reset-meter.ts';
import type { CallContext, MetadataReader, ServiceRegistration } from './service.ts';
import { toServiceError } from './status.ts';
import { deadlineOf, eventsOf, headerOf, peerOf, requestIdOf, type Surface } from './surface.ts';

/** What the calls of one server share. */
export type CallScope = {
  log: Log;
  meter: ResetMeter;
  spans: SpanSink;
  /** Name of the span around authentication, below the call's. Null: none, as between services. */
  authorizeSpan: string | null;
  durations: HistogramMetric;
  inFlight: GaugeMetric;
  running: LiveMap<number, ActiveCall>;
  /** True once the drain has begun. */
  refusing: boolean;
  authenticate(surface: Surface, peer: string): Principal | Promise<Principal>;
  /** Called after each end. */
  onEnd(): void;
};

/** Our own faults are errors in the log; what callers did is information. */
const FAULTS: ReadonlySet<Code> = new Set(['INTERNAL', 'UNKNOWN', 'DATA_LOSS']);

/** Callers known by a key share one meter over all their connections; the local person and services have one per connection. */
function meterKeyOf(principal: Principal, peer: string): string {
  const anonymous = principal.role === 'service' || principal.keyId === localPrincipal.keyId;
  return anonymous ? peer : principalKey(principal);
}

/** Whether a reset that comes now is the passed deadline of a call that arrived then. */
function isExpired(deadlineUnixMs: number | null, arrivedUnixMs: number): boolean {
  if (deadlineUnixMs === null) return false;
  const slackMs = Math.min(RPC_DEADLINE_SLACK_MS, (deadlineUnixMs - arrivedUnixMs) / 4);
  return Date.now() >= deadlineUnixMs - slackMs;
}

let numbered = 0;

function takeNumber(): number {
  numbered += 1;
  return numbered;
}

type ContextParts = {
  method: string;
  peer: string;
  signal: AbortSignal;
  trailers: Metadata;
  principal(): Principal;
  trace(): TraceContext;
};

/** What a handler sees of its call. A class: see AnswerStream in out.ts for what a literal with getters would cost. */
class HandlerContext implements CallContext {
  readonly method: string;
  readonly requestId: string;
  readonly signal: AbortSignal;
  readonly deadlineUnixMs: number | null;
  readonly peer: string;
  readonly metadata: MetadataReader;
  readonly #parts: ContextParts;

  constructor(surface: Surface, parts: ContextParts) {
    this.method = parts.method;
    this.requestId = requestIdOf(surface);
    this.signal = parts.signal;
    this.deadlineUnixMs = deadlineOf(surface);
    this.peer = parts.peer;
    this.metadata = { get: (name) => headerOf(surface, name) };
    this.#parts = parts;
  }

  get principal(): Principal {
    return this.#parts.principal();
  }

  get trace(): TraceContext {
    return this.#parts.trace();
  }

  setTrailer(name: string, value: string): void {
    this.#parts.trailers.set(name, value);
  }
}

export class ActiveCall {
  readonly context: CallContext;
  readonly background: boolean;
  /** Sent with the final status. */
  readonly trailers = new Metadata();
  readonly #scope: CallScope;
  readonly #number = takeNumber();
  readonly #surface: Surface;
  readonly #open: boolean;
  readonly #startedUnixNs: bigint;
  /** Starts when it is known whether the caller's word counts. */
  #span: Span | null = null;
  readonly #controller = new AbortController();
  readonly #startedMs = performance.now();
  readonly #arrivedUnixMs = Date.now();
  #principal: Principal = strangerPrincipal;
  #meterKey: string;
  /** A status was sent or the caller went away: nothing more can be said. */
  #answered = false;
  #hasInitial = false;

  constructor(scope: CallScope, surface: Surface, method: string, service: ServiceRegistration) {
    this.#scope = scope;
    this.#surface = surface;
    this.#open = service.open;
    this.background = service.background;
    const peer = peerOf(surface);
    this.#meterKey = peer;
    this.#startedUnixNs = this.#tracing ? nowUnixNs() : 0n;
    this.context = new HandlerContext(surface, {
      method,
      peer,
      signal: this.#controller.signal,
      trailers: this.trailers,
      principal: () => this.#principal,
      trace: () => this.#spanOf(false).context,
    });
    scope.running.set(this.#number, this);
    scope.inFlight.inc({ method });
    eventsOf(surface).once('cancelled', () => this.#onCancelled());
  }

  /** Health and reflection are asked all the time by machines: no spans. */
  get #tracing(): boolean {
    return this.#scope.spans !== noSpans && !this.#open && !this.background;
  }

  /** This call's span. `trusted` counts at the first call: whether the caller's own context is continued. */
  #spanOf(trusted: boolean): Span {
    if (this.#span) return this.#span;
    const surface = this.#surface;
    const { method } = this.context;
    const context = extract(headerOf(surface, 'traceparent'), headerOf(surface, 'tracestate'));
    const sink = this.#tracing ? this.#scope.spans : noSpans;
    this.#span = startRemoteSpan(
      sink,
      method,
      { context, trusted },
      {
        kind: 'server',
        startUnixNs: this.#startedUnixNs,
        attributes: { [RPC_SYSTEM_NAME]: 'grpc', [RPC_METHOD]: method },
      },
    );
    return this.#span;
  }

  async #authenticate(): Promise<Principal> {
    const { authenticate, authorizeSpan, spans } = this.#scope;
    const startUnixNs = this.#tracing ? nowUnixNs() : 0n;
    const note = (trusted: boolean): void => {
      const { context } = this.#spanOf(trusted);
      if (!this.#tracing || authorizeSpan === null) return;
      const attributes = { [ATTR_AUTH_DECISION]: trusted ? 'allow' : 'deny' };
      startSpan(spans, authorizeSpan, context, { startUnixNs, attributes }).end();
    };
    try {
      const principal = await authenticate(this.#surface, this.context.peer);
      note(true);
      return principal;
    } catch (error) {
      note(false);
      throw error;
    }
  }

  #onCancelled(): void {
    if (this.#answered) return; // grpc-js says 'cancelled' after a normal end too
    this.#answered = true;
    this.#scope.meter.charge(this.#meterKey);
    const reason = isExpired(this.context.deadlineUnixMs, this.#arrivedUnixMs)
      ? new QuernError('DEADLINE_EXCEEDED', 'the deadline of the call passed')
      : new QuernError('CANCELLED', 'the caller cancelled or went away');
    this.#controller.abort(reason);
  }

  abort(reason: QuernError): void {
    this.#controller.abort(reason);
  }

  /** Decides who calls and whether this call may run. Throws the refusal. */
  async admit(): Promise<void> {
    if (this.#open) return;
    const { meter, refusing } = this.#scope;
    if (refusing) {
      this.trailers.set('grpc-retry-pushback-ms', String(RPC_DRAIN_RETRY_MS));
      const details = { reason: 'DRAINING', retryAfterMs: RPC_DRAIN_RETRY_MS };
      throw new QuernError('UNAVAILABLE', 'this server is stopping; retry, another one may answer', details);
    }
    this.#principal = await this.#authenticate();
    this.#meterKey = meterKeyOf(this.#principal, this.context.peer);
    const retryAfterMs = meter.waitMs(this.#meterKey);
    if (retryAfterMs > 0) {
      const message = 'too many calls were cancelled in a short time; cancel less often or spread them over time';
      throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'RESET_LIMIT', retryAfterMs });
    }
  }

  /** Initial metadata, the first time. It goes with the answer or its first message; a stream in both directions sends it when admitted. */
  sendInitial(): void {
    if (this.#hasInitial) return;
    this.#hasInitial = true;
    const metadata = new Metadata();
    metadata.set('x-request-id', this.context.requestId);
    this.#surface.sendMetadata(metadata);
  }

  /** The error as grpc-js sends it, with this call's trailers. */
  failure(error: QuernError): ServiceError {
    const serviceError = toServiceError(error);
    this.trailers.set('x-request-id', this.context.requestId); // an answer without messages has no initial metadata
    serviceError.metadata.merge(this.trailers);
    return serviceError;
  }

  /**
   * Called once, when the handler is done; `thrown` is null when it returned.
   * Answers the error to send, null for OK, undefined when nobody listens any more.
   */
  settle(thrown: unknown): QuernError | null | undefined {
    const { running, inFlight, durations, onEnd } = this.#scope;
    const { method } = this.context;
    const mute = this.#answered;
    const error = this.#verdict(thrown);
    this.#answered = true;
    running.delete(this.#number);
    inFlight.dec({ method });
    const durationMs = performance.now() - this.#startedMs;
    const code = error?.code ?? 'OK';
    durations.observe(durationMs / 1000, { method, code }, this.context.trace);
    this.#endSpan(error);
    this.#writeLine(error, durationMs);
    onEnd();
    return mute ? undefined : error;
  }

  #endSpan(error: QuernError | null): void {
    const span = this.#spanOf(false);
    if (!this.#tracing) return;
    const { tenant, role, keyId } = this.#principal;
    span.set({
      [RPC_STATUS_CODE]: error?.code ?? 'OK',
      [ATTR_REQUEST_ID]: this.context.requestId,
      ...(keyId !== '' && role !== 'service' && { [ATTR_TENANT]: tenant, [ATTR_KEY_ID]: keyId }),
      ...(error && { [ATTR_REASON]: error.details.reason, [ERROR_TYPE]: error.code }),
    });
    span.end({ error: serverFault(error?.code) });
  }

  /** The status that counts. */
  #verdict(thrown: unknown): QuernError | null {
    const { signal } = this.#controller;
    if (this.#answered) return toQuernError(signal.reason); // the caller is gone, whatever the handler did
    if (thrown === null) return null;
    const error = toQuernError(thrown);
    return signal.aborted && error.code === 'CANCELLED' ? toQuernError(signal.reason) : error;
  }

  #writeLine(error: QuernError | null, durationMs: number): void {
    const { log } = this.#scope;
    const { method, requestId, trace, peer } = this.context;
    const fault = error !== null && FAULTS.has(error.code);
    const fields = {
      method,
      code: error?.code ?? 'OK',
      duration_ms: Math.round(durationMs * 1000) / 1000,
      request_id: requestId,
      trace_id: trace.traceId,
      ...(this.#principal !== strangerPrincipal && { tenant: this.#principal.tenant, user: this.#principal.user }),
      peer,
      ...(error && { reason: error.details.reason, error: error.message }),
      ...(fault && { err: error.cause ?? error }),
    };
    if (fault) log.error(fields, 'rpc');
    else if (this.#open) log.debug(fields, 'rpc');
    else log.info(fields, 'rpc');
  }
}
