// One call from its arrival to its one end: signal, principal, context, verdict, log line, observation.
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { type Code, QuernError, toQuernError } from '#kit/errors.ts';
import { RPC_DEADLINE_SLACK_MS, RPC_DRAIN_RETRY_MS } from '#kit/limits.ts';
import type { Log } from '#kit/log.ts';
import type { GaugeMetric, HistogramMetric } from '#kit/metrics.ts';
import { localPrincipal, type Principal, principalKey } from '#kit/principal.ts';
import { extract, type Span, type SpanSink, startSpan } from '#kit/trace.ts';
import type { ResetMeter } from './reset-meter.ts';
import type { CallContext, ServiceRegistration } from './service.ts';
import { toServiceError } from './status.ts';
import { deadlineOf, eventsOf, headerOf, peerOf, requestIdOf, type Surface } from './surface.ts';

/** What the calls of one server share. */
export type CallScope = {
  log: Log;
  meter: ResetMeter;
  spans: SpanSink;
  durations: HistogramMetric;
  inFlight: GaugeMetric;
  running: Set<ActiveCall>;
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

export class ActiveCall {
  readonly context: CallContext;
  readonly background: boolean;
  /** Sent with the final status. */
  readonly trailers = new Metadata();
  readonly #scope: CallScope;
  readonly #surface: Surface;
  readonly #open: boolean;
  readonly #span: Span;
  readonly #controller = new AbortController();
  readonly #startedMs = performance.now();
  readonly #arrivedUnixMs = Date.now();
  #principal: Principal = localPrincipal;
  #meterKey: string;
  /** A status was sent or the caller went away: nothing more can be said. */
  #answered = false;

  constructor(scope: CallScope, surface: Surface, method: string, service: ServiceRegistration) {
    this.#scope = scope;
    this.#surface = surface;
    this.#open = service.open;
    this.background = service.background;
    const peer = peerOf(surface);
    this.#meterKey = peer;
    const parent = extract(headerOf(surface, 'traceparent'), headerOf(surface, 'tracestate'));
    this.#span = startSpan(scope.spans, method, parent, {
      kind: 'server',
      attributes: { 'rpc.system.name': 'grpc', 'rpc.method': method },
    });
    this.context = this.#buildContext(method, peer);
    scope.running.add(this);
    scope.inFlight.inc({ method });
    eventsOf(surface).once('cancelled', () => this.#onCancelled());
  }

  #buildContext(method: string, peer: string): CallContext {
    const surface = this.#surface;
    const principal = (): Principal => this.#principal;
    return {
      method,
      requestId: requestIdOf(surface),
      signal: this.#controller.signal,
      deadlineUnixMs: deadlineOf(surface),
      get principal() {
        return principal();
      },
      trace: this.#span.context,
      peer,
      metadata: { get: (name) => headerOf(surface, name) },
      setTrailer: (name, value) => this.trailers.set(name, value),
    };
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
    const { meter, refusing, authenticate } = this.#scope;
    if (refusing) {
      this.trailers.set('grpc-retry-pushback-ms', String(RPC_DRAIN_RETRY_MS));
      const details = { reason: 'DRAINING', retryAfterMs: RPC_DRAIN_RETRY_MS };
      throw new QuernError('UNAVAILABLE', 'this server is stopping; retry, another one may answer', details);
    }
    this.#principal = await authenticate(this.#surface, this.context.peer);
    this.#meterKey = meterKeyOf(this.#principal, this.context.peer);
    const retryAfterMs = meter.waitMs(this.#meterKey);
    if (retryAfterMs > 0) {
      const message = 'too many calls were cancelled in a short time; cancel less often or spread them over time';
      throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'RESET_LIMIT', retryAfterMs });
    }
  }

  /** Initial metadata. Streams send it when admitted, unary calls with their answer. */
  sendInitial(): void {
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
    running.delete(this);
    inFlight.dec({ method });
    const durationMs = performance.now() - this.#startedMs;
    const code = error?.code ?? 'OK';
    durations.observe(durationMs / 1000, { method, code });
    this.#span.set({ 'rpc.status_code': code, 'quern.request_id': this.context.requestId });
    this.#span.end(error ? { error: error.code } : {});
    this.#writeLine(error, durationMs);
    onEnd();
    return mute ? undefined : error;
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
      tenant: this.#principal.tenant,
      user: this.#principal.user,
      peer,
      ...(error && { reason: error.details.reason, error: error.message }),
      ...(fault && { err: error.cause ?? error }),
    };
    if (fault) log.error(fields, 'rpc');
    else if (this.#open) log.debug(fields, 'rpc');
    else log.info(fields, 'rpc');
  }
}
