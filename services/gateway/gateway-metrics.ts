// What the gateway counts, under its own names and under vLLM's, which dashboards know.
import {
  ITL_BUCKETS_SECONDS,
  LATENCY_BUCKETS_SECONDS,
  type Metrics,
  RPC_BUCKETS_SECONDS,
  TTFT_BUCKETS_SECONDS,
} from '#kit/metrics.ts';
import { FastHistogram } from './fast-histogram.ts';

export type FinishedRequest = {
  model: string;
  method: string;
  /** stop, length, cancelled, ... or the error's code. */
  outcome: string;
  seconds: number;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
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
  shed(reason: string): void;
  resumed(model: string): void;
  /** From a Cancel to the engine's end of the request. */
  cancelled(seconds: number): void;
  firstToken(model: string, seconds: number): void;
  /** Seconds between two steps' tokens of one choice. Keep the observer. */
  interToken(model: string): (seconds: number) => void;
  finished(request: FinishedRequest): void;
  /** `path` is a route, not what the caller wrote. */
  httpRequest(path: string, method: string, status: number): void;
  watch(gauges: GatewayGauges): void;
  render(): Promise<string>;
  readonly contentType: string;
};

const METHODS = new Set(['GET', 'POST', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'PATCH']);

/** As the text exposition format asks: backslash, quote and line end. */
function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

export function createGatewayMetrics(metrics: Metrics): GatewayMetrics {
  const shed = metrics.counter({
    name: 'quern_gateway_shed_total',
    help: 'Requests refused by admission',
    labels: ['reason'],
  });
  const resumes = metrics.counter({
    name: 'quern_gateway_resumes_total',
    help: 'Requests carried over a broken engine session',
    labels: ['model'],
  });
  const finished = metrics.counter({
    name: 'quern_gateway_requests_total',
    help: 'Requests by how they ended',
    labels: ['model', 'method', 'outcome'],
  });
  const counter = (name: string, help: string) => metrics.counter({ name, help, labels: ['model_name'] });
  const promptTokens = counter('vllm:prompt_tokens_total', 'Prompt tokens of finished requests');
  const cachedTokens = counter('vllm:prompt_tokens_cached_total', 'Prompt tokens served by the prefix cache');
  const generationTokens = counter('vllm:generation_tokens_total', 'Generated tokens of finished requests');
  const success = metrics.counter({
    name: 'vllm:request_success_total',
    help: 'Requests that ended without an error',
    labels: ['model_name', 'finished_reason'],
  });
  const http = metrics.counter({
    name: 'quern_gateway_http_requests_total',
    help: 'HTTP requests by route and status',
    labels: ['handler', 'method', 'status'],
  });
  const cancelLatency = metrics.histogram({
    name: 'quern_gateway_cancel_latency_seconds',
    help: 'From a Cancel to the end of the request at the engine',
    buckets: RPC_BUCKETS_SECONDS,
  });
  const ttftHelp = 'From arrival to first token, tokenization included';
  const ttft = metrics.histogram({
    name: 'vllm:time_to_first_token_seconds',
    help: ttftHelp,
    labels: ['model_name'],
    buckets: TTFT_BUCKETS_SECONDS,
  });
  const e2e = metrics.histogram({
    name: 'vllm:e2e_request_latency_seconds',
    help: 'From arrival to the last event',
    labels: ['model_name'],
    buckets: LATENCY_BUCKETS_SECONDS,
  });
  const itl = new FastHistogram(
    'vllm:inter_token_latency_seconds',
    'Between two steps of one choice',
    ITL_BUCKETS_SECONDS,
  );
  return {
    contentType: metrics.contentType,
    shed: (reason) => shed.inc({ reason }),
    cancelled: (seconds) => cancelLatency.observe(seconds),
    resumed: (model) => resumes.inc({ model }),
    firstToken: (model, seconds) => ttft.observe(seconds, { model_name: model }),
    interToken: (model) => itl.series(`service="${metrics.service}",model_name="${escapeLabel(model)}"`),
    finished(request) {
      const { model, method, outcome } = request;
      finished.inc({ model, method, outcome });
      promptTokens.inc({ model_name: model }, request.promptTokens);
      cachedTokens.inc({ model_name: model }, request.cachedTokens);
      generationTokens.inc({ model_name: model }, request.completionTokens);
      e2e.observe(request.seconds, { model_name: model });
      if (outcome === 'stop' || outcome === 'length') success.inc({ model_name: model, finished_reason: outcome });
    },
    httpRequest: (path, method, status) =>
      http.inc({ handler: path, method: METHODS.has(method) ? method : 'other', status }),
    watch: (gauges) => watchGauges(metrics, gauges),
    render: async () => (await metrics.render()) + itl.render(),
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
    'vllm:num_requests_running',
    'Sequences running on the engine after its last step',
    (engine) => engine.running,
  );
  perEngine('vllm:num_requests_waiting', 'Sequences waiting on the engine', (engine) => engine.waiting);
}
