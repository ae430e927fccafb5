// What the gateway counts: the requests as callers see them. Engines export vLLM's names; a gateway that did too would be
// counted twice by dashboards that add all series of a name.
import type { SuggestionEvent } from '#gen/quern/gateway/v1/gateway.ts';
import {
  ITL_BUCKETS_SECONDS,
  LATENCY_BUCKETS_SECONDS,
  type Metrics,
  RPC_BUCKETS_SECONDS,
  TTFT_BUCKETS_SECONDS,
} from '#kit/metrics.ts';
import type { TraceContext } from '#kit/trace.ts';
import { createSuggestionMetrics } from './suggestion-events.ts';

/** Tool calls of an answer: whole ones, and what began as one and was none. */
export type CallCounts = { made: number; invalid: number };

export type FinishedRequest = {
  model: string;
  method: 'complete' | 'infill' | 'chat';
  tenant: string;
  /** stop, length, cancelled, ... or the error's code. */
  outcome: string;
  /** The code of what failed; null when it ended by itself. */
  error: string | null;
  seconds: number;
  /** From its first token to its last. */
  decodeSeconds: number;
  choices: number;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  /** Of its answers, where they were read; absent: none were. */
  toolCalls?: CallCounts;
  trace: TraceContext;
};

/** Read at each scrape. */
export type GatewayGauges = {
  requestsInFlight(): number;
  tokensInFlight(): number;
  engines(): {
    model: string;
    engine: string;
    ready: boolean;
    inFlight: number;
    running: number;
    waiting: number;
    zombies: number;
  }[];
};

export type GatewayMetrics = {
  /** `reason`: admission's, or "engine_busy". */
  shed(reason: string): void;
  resumed(model: string): void;
  /** From a Cancel to the engine's end of the request. */
  cancelled(seconds: number): void;
  firstToken(model: string, seconds: number, trace: TraceContext): void;
  /** Seconds between two steps' tokens of one choice. Keep the observer. */
  interToken(model: string): (seconds: number) => void;
  finished(request: FinishedRequest): void;
  /** `path` is a route, not what the caller wrote. */
  httpRequest(path: string, method: string, status: number): void;
  suggestion(event: SuggestionEvent): void;
  watch(gauges: GatewayGauges): void;
  render(): Promise<string>;
  /** `tenants`: with the series that name tenants. */
  scrape(accept: string | undefined, options: { tenants: boolean }): ReturnType<Metrics['scrape']>;
};

const HTTP_METHODS = new Set(['GET', 'POST', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'PATCH']);
/** gen_ai.operation.name of OpenTelemetry's conventions. */
const OPERATION = { complete: 'text_completion', infill: 'text_completion', chat: 'chat' } as const;
/** gen_ai.client.token.usage as the conventions advise. */
const USAGE_BUCKETS = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144];
/** Ends whose tokens nobody used. */
const WASTED = new Set(['cancelled', 'superseded']);

function createCounters(metrics: Metrics) {
  const counter = (name: string, help: string, labels: string[]) => metrics.counter({ name, help, labels });
  return {
    shed: counter(
      'quern_gateway_shed_total',
      'Requests refused for load, by the bound of the gateway that was met, or by an engine',
      ['reason'],
    ),
    resumes: counter('quern_gateway_resumes_total', 'Requests carried over a broken engine session', ['model']),
    requests: counter('quern_gateway_requests_total', 'Requests by how they ended', ['model', 'method', 'outcome']),
    tokens: counter('quern_gateway_tokens_total', 'Tokens of ended requests: prompt, of these cached, and completion', [
      'model',
      'kind',
    ]),
    wasted: counter('quern_gateway_tokens_wasted_total', 'Completion tokens of requests that were given up', [
      'model',
      'reason',
    ]),
    toolCalls: counter(
      'quern_gateway_tool_calls_total',
      'Tool calls read in answers: made, or invalid and given as text',
      ['model', 'outcome'],
    ),
    tenantRequests: counter('quern_gateway_tenant_requests_total', 'Ended requests of each tenant', [
      'tenant',
      'outcome',
    ]),
    tenantTokens: counter('quern_gateway_tenant_tokens_total', 'Tokens of the ended requests of each tenant', [
      'tenant',
      'kind',
    ]),
    tenantSeconds: counter('quern_gateway_tenant_request_seconds_total', 'Time of the ended requests of each tenant', [
      'tenant',
    ]),
    http: counter('quern_gateway_http_requests_total', 'HTTP requests by route and status', [
      'handler',
      'method',
      'status',
    ]),
  };
}

function createHistograms(metrics: Metrics) {
  const histogram = (name: string, help: string, labels: string[], buckets: readonly number[]) =>
    metrics.histogram({ name, help, labels, buckets });
  return {
    cancelLatency: histogram(
      'quern_gateway_cancel_latency_seconds',
      'From a Cancel to the end of the request at the engine',
      [],
      RPC_BUCKETS_SECONDS,
    ),
    ttft: histogram(
      'gen_ai_server_time_to_first_token_seconds',
      'From arrival to first token, tokenization included',
      ['gen_ai_request_model'],
      TTFT_BUCKETS_SECONDS,
    ),
    duration: histogram(
      'gen_ai_server_request_duration_seconds',
      'From arrival to the last event; error_type is absent when it ended well',
      ['gen_ai_request_model', 'gen_ai_operation_name', 'error_type'],
      LATENCY_BUCKETS_SECONDS,
    ),
    perToken: histogram(
      'gen_ai_server_time_per_output_token_seconds',
      'Mean time between tokens of a request that ended well',
      ['gen_ai_request_model'],
      ITL_BUCKETS_SECONDS,
    ),
    usage: histogram(
      'gen_ai_client_token_usage',
      'Tokens per request',
      ['gen_ai_request_model', 'gen_ai_operation_name', 'gen_ai_token_type'],
      USAGE_BUCKETS,
    ),
    itl: histogram('quern_itl_seconds', 'Between two steps of one choice', ['model'], ITL_BUCKETS_SECONDS),
  };
}

type Counters = ReturnType<typeof createCounters>;
type Histograms = ReturnType<typeof createHistograms>;

function countFinished(counters: Counters, histograms: Histograms, request: FinishedRequest): void {
  const { model, method, tenant, outcome, error, seconds, trace } = request;
  const { promptTokens, cachedTokens, completionTokens } = request;
  counters.requests.inc({ model, method, outcome });
  counters.tenantRequests.inc({ tenant, outcome });
  counters.tenantSeconds.inc({ tenant }, seconds);
  const kinds = { prompt: promptTokens, cached: cachedTokens, completion: completionTokens };
  for (const [kind, count] of Object.entries(kinds)) {
    counters.tokens.inc({ model, kind }, count);
    counters.tenantTokens.inc({ tenant, kind }, count);
  }
  for (const [how, count] of Object.entries(request.toolCalls ?? {})) {
    if (count > 0) counters.toolCalls.inc({ model, outcome: how }, count);
  }
  if (WASTED.has(outcome) || error !== null) counters.wasted.inc({ model, reason: outcome }, completionTokens);
  const labels = { gen_ai_request_model: model, gen_ai_operation_name: OPERATION[method] };
  histograms.duration.observe(seconds, { ...labels, error_type: error ?? '' }, trace);
  if (error !== null) return;
  const gaps = completionTokens / Math.max(1, request.choices) - 1;
  if (gaps > 0) histograms.perToken.observe(request.decodeSeconds / gaps, { gen_ai_request_model: model }, trace);
  histograms.usage.observe(promptTokens, { ...labels, gen_ai_token_type: 'input' });
  histograms.usage.observe(completionTokens, { ...labels, gen_ai_token_type: 'output' });
}

export function createGatewayMetrics(metrics: Metrics): GatewayMetrics {
  const counters = createCounters(metrics);
  const histograms = createHistograms(metrics);
  const suggestions = createSuggestionMetrics(metrics);
  return {
    render: () => metrics.render(),
    scrape: (accept, { tenants }) =>
      metrics.scrape(accept, (name) => tenants || !name.startsWith('quern_gateway_tenant_')),
    shed: (reason) => counters.shed.inc({ reason }),
    cancelled: (seconds) => histograms.cancelLatency.observe(seconds),
    resumed: (model) => counters.resumes.inc({ model }),
    firstToken: (model, seconds, trace) => histograms.ttft.observe(seconds, { gen_ai_request_model: model }, trace),
    interToken: (model) => histograms.itl.series({ model }),
    finished: (request) => countFinished(counters, histograms, request),
    httpRequest: (path, method, status) =>
      counters.http.inc({ handler: path, method: HTTP_METHODS.has(method) ? method : 'other', status }),
    suggestion: suggestions.count,
    watch: (gauges) => watchGauges(metrics, gauges),
  };
}

function watchGauges(metrics: Metrics, gauges: GatewayGauges): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    metrics.gauge({ name, help, collect: (set) => set(read()) });
  };
  gauge('quern_gateway_requests_running', 'Requests admitted and not ended', gauges.requestsInFlight);
  gauge('quern_gateway_tokens_in_flight', 'Prompt tokens and max_tokens of running requests', gauges.tokensInFlight);
  type Engine = ReturnType<GatewayGauges['engines']>[number];
  const perEngine = (name: string, help: string, read: (engine: Engine) => number): void => {
    metrics.gauge({
      name,
      help,
      labels: ['model', 'engine'],
      collect: (set) => {
        for (const engine of gauges.engines()) set(read(engine), { model: engine.model, engine: engine.engine });
      },
    });
  };
  perEngine('quern_gateway_engine_ready', '1 when the engine takes requests', (engine) => (engine.ready ? 1 : 0));
  perEngine('quern_gateway_engine_requests', 'Requests of this gateway on the engine', (engine) => engine.inFlight);
  perEngine(
    'quern_gateway_zombie_requests',
    'Cancelled requests that the engine has not ended; must be 0',
    (engine) => engine.zombies,
  );
  perEngine(
    'quern_gateway_engine_requests_running',
    'Sequences running on the engine after its last step',
    (engine) => engine.running,
  );
  perEngine('quern_gateway_engine_requests_waiting', 'Sequences waiting on the engine', (engine) => engine.waiting);
}
