// What is told about one request, and to whom: the timeline that Explain shows, the audit record, the client span towards the
// engine, the metrics. The generation says what happens; here it is said on.
import type { SamplingParams, Timings, Usage } from '#gen/quern/common/v1/common.ts';
import type { QuernError } from '#kit/errors.ts';
import { ATTR_REASON } from '#kit/semconv.ts';
import type { Span, SpanSink, TraceContext } from '#kit/trace.ts';
import type { GatewayAudit } from './audit/gateway-audit.ts';
import type { AuditedGeneration, RequestAudit } from './audit/request-audit.ts';
import { type Choice, callCountsOf } from './choice.ts';
import { isLoadRefusal } from './engine-refusal.ts';
import type { LateEnd } from './engine-session.ts';
import type { ExplainRing } from './explain-ring.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import { type Caller, type GenerationSink, outcomeOf } from './generation-events.ts';
import { endGenerationSpan, noteFirstToken, startGenerationSpan } from './generation-span.ts';
import type { RequestTimeline, StageName } from './request-timeline.ts';
import { TokenClock } from './token-clock.ts';
import type { TypedRequest } from './typed-request.ts';

/** Who is told. */
export type AccountListeners = { metrics: GatewayMetrics; explain: ExplainRing; audit: GatewayAudit; spans: SpanSink };

export type AccountedRequest = { request: TypedRequest; caller: Caller; requestId: string };

/** How a request ended. `failure` is null when the client got an answer. */
export type RequestEnding = {
  outcome: string;
  failure: QuernError | null;
  usage: Usage;
  timings: Timings | undefined;
  choices: readonly Choice[];
};

export class RequestAccount {
  /** Times an engine was lost and the request went on. */
  resumes = 0;
  readonly #listeners: AccountListeners;
  readonly #about: AccountedRequest;
  readonly #clock: TokenClock;
  readonly #timeline: RequestTimeline;
  #model = '';
  #audit: RequestAudit | null = null;
  #span: Span | null = null;

  /** The request has arrived. */
  constructor(listeners: AccountListeners, about: AccountedRequest) {
    const { request, caller, requestId } = about;
    const { principal, trace } = caller;
    const startedMs = performance.now();
    this.#listeners = listeners;
    this.#about = about;
    this.#clock = new TokenClock(listeners.metrics, startedMs, trace);
    const facts = { requestId, principal, method: request.method, traceId: trace.traceId };
    this.#timeline = listeners.explain.begin(facts, startedMs);
  }

  get elapsedMs(): number {
    return this.#clock.elapsedMs;
  }

  /** It is known which model it is for. */
  named(model: string): void {
    this.#model = model;
    this.#timeline.model = model;
  }

  /** It is let in: from here on every event goes through the sink that is answered, which the audit may hold back. */
  accepted(sink: GenerationSink, generation: AuditedGeneration): GenerationSink {
    this.#audit = this.#listeners.audit.accept({ ...this.#about, model: this.#model }, sink, generation);
    return this.#audit.sink;
  }

  /** True while the answer may not leave; `then` is called when it may. */
  holds(then: () => void): boolean {
    return this.#audit?.holds(then) ?? false;
  }

  enter(stage: StageName): void {
    this.#timeline.enter(stage);
  }

  /** It goes to an engine. Answers what the engine's spans lie below. */
  submitting(sampling: SamplingParams): TraceContext {
    const { request, caller, requestId } = this.#about;
    const facts = { request, model: this.#model, requestId, sampling };
    this.#span ??= startGenerationSpan(this.#listeners.spans, caller.trace, facts);
    this.#timeline.enter('engine');
    return this.#span.context;
  }

  /** An engine step brought tokens. */
  step(): void {
    this.#timeline.step();
    if (this.#clock.step(this.#model)) noteFirstToken(this.#span, this.#clock.elapsedMs);
  }

  /** The engine of a running request is gone. */
  affected(error: QuernError): void {
    this.#audit?.affected(error);
  }

  /** It goes on elsewhere. */
  resumed(error: QuernError): void {
    this.resumes += 1;
    this.#timeline.resumes = this.resumes;
    this.#span?.event('engine_lost', { [ATTR_REASON]: error.details.reason });
    this.#listeners.metrics.resumed(this.#model);
  }

  /** Its engine took it not, or no longer. */
  refusedByEngine(error: QuernError): void {
    if (isLoadRefusal(error)) this.#listeners.metrics.shed('engine_busy');
  }

  lastToken(): void {
    this.#span?.event('last_token');
    this.#timeline.enter('finish');
  }

  /** For an engine's end that comes when the request has been given up. Holds nothing of it but its timeline. */
  lateEnd(): LateEnd {
    const timeline = this.#timeline;
    return (finished) => timeline.lateEnd(finished);
  }

  /** Called exactly once. */
  settled({ outcome, failure, usage, timings, choices }: RequestEnding): void {
    const error = failure?.code ?? null;
    const model = this.#model;
    const latencyMs = this.#clock.elapsedMs;
    const { request, caller } = this.#about;
    this.#timeline.finish({ outcome, error: failure, usage, timings });
    this.#audit?.finish({ error: failure, reason: outcome, usage, timings, latencyMs });
    if (this.#span) {
      const finishReasons = choices.flatMap(({ finished }) => (finished ? [outcomeOf(finished)] : []));
      endGenerationSpan(this.#span, { model, usage, outcome, finishReasons, resumes: this.resumes, error });
    }
    this.#listeners.metrics.finished({
      model,
      method: request.method,
      tenant: caller.principal.tenant,
      outcome,
      error,
      seconds: latencyMs / 1000,
      decodeSeconds: this.#clock.decodeSeconds,
      choices: choices.length,
      toolCalls: callCountsOf(choices),
      trace: caller.trace,
      ...usage,
    });
  }
}
