// Prometheus metrics with units in their names, one registry per process.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { assert } from './assert.ts';
import { QuernError } from './errors.ts';
import {
  CONTENT_TYPES,
  type Family,
  formatFor,
  formatLabels,
  type MetricFormat,
  renderFamilies,
} from './exposition.ts';
import { Histogram, type Observe } from './histogram.ts';
import { watchHost } from './host-metrics.ts';
import { type Labels, MetricSeries } from './metric-series.ts';
import type { TraceContext } from './trace.ts';

export type { Labels } from './metric-series.ts';

/**
 * Seconds to the first token. From a millisecond on, since a small model answers a code completion in a few; 350 ms and 1.5 s
 * are objectives (docs/observability.md), so that they are bounds here.
 */
export const TTFT_BUCKETS_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5,
  7.5, 10, 20, 40, 80,
];
/** Seconds between tokens; a small model on a GPU takes 2 to 8 ms. */
export const ITL_BUCKETS_SECONDS = [
  0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1,
  2.5, 5, 10,
];
/** Seconds of a whole request: completions below 2, chats up to minutes. */
export const LATENCY_BUCKETS_SECONDS = [
  0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 7.5, 10, 20, 40, 80, 160,
  320, 640,
];
/** Calls between our own processes: half a millisecond is usual. */
export const RPC_BUCKETS_SECONDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
];
/** Token counts, powers of two. */
export const TOKEN_BUCKETS = [
  1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072,
];

export type CounterMetric = { inc(labels?: Labels, by?: number): void };
export type GaugeMetric = {
  set(value: number, labels?: Labels): void;
  inc(labels?: Labels, by?: number): void;
  dec(labels?: Labels, by?: number): void;
};
export type HistogramMetric = {
  observe(value: number, labels?: Labels, trace?: TraceContext | null): void;
  /** The observer of one label set; keep it where it is called often. */
  series(labels: Labels): Observe;
};

export type MetricOptions = {
  /** quern_<what>_<unit>; counters end in _total. gen_ai_* are OpenTelemetry's names, vllm:* aliases for dashboards. */
  name: string;
  help: string;
  labels?: readonly string[];
};

export type Metrics = {
  readonly service: string;
  counter(options: MetricOptions): CounterMetric;
  /** `collect` is called at each scrape with a setter, for values that are cheaper to read than to follow. */
  gauge(options: MetricOptions & { collect?: (set: GaugeMetric['set']) => void | Promise<void> }): GaugeMetric;
  histogram(options: MetricOptions & { buckets: readonly number[] }): HistogramMetric;
  /** All metrics with their values now, by name. */
  families(): Promise<Family[]>;
  /** The text exposition format; 'openmetrics' has exemplars. */
  render(format?: MetricFormat): Promise<string>;
  /** What a scrape with this Accept header is answered; `keep` chooses metrics by name. */
  scrape(accept: string | undefined, keep?: (name: string) => boolean): Promise<{ contentType: string; text: string }>;
};

type Kind = 'counter' | 'gauge' | 'histogram';

const NAME = /^(?:quern_[a-z0-9_]+|gen_ai_[a-z0-9_]+|vllm:[a-z0-9_]+)$/;
const HISTOGRAM_UNIT = /_(?:seconds|bytes|tokens|ratio|count|usage)$/;

function checkName(kind: Kind, name: string): void {
  assert(NAME.test(name), `metric name "${name}": expected quern_<what>_<unit>, gen_ai_<what> or vllm:<name>`);
  if (name.startsWith('vllm:')) return;
  if (kind === 'counter') assert(name.endsWith('_total'), `counter "${name}" must end in _total`);
  else assert(!name.endsWith('_total'), `${kind} "${name}" must not end in _total`);
  if (kind === 'histogram') {
    assert(HISTOGRAM_UNIT.test(name), `histogram "${name}" must end in _seconds, _bytes, _tokens, _ratio or _count`);
  }
}

type Built<M> = { metric: M; family(): Family | Promise<Family> };

function familyOf(
  kind: Kind,
  { name, help, labels = [] }: MetricOptions,
  series: MetricSeries<{ value: number }>,
): Family {
  const samples = [...series].map(({ labels, state }) => ({ name, labels, value: state.value }));
  return { name, help, type: kind, labelNames: labels, samples };
}

function buildCounter(options: MetricOptions): Built<CounterMetric> {
  const series = new MetricSeries(options.labels ?? [], () => ({ value: 0 }));
  return {
    metric: {
      inc(labels = {}, by = 1) {
        series.of(labels).value += by;
      },
    },
    family: () => familyOf('counter', options, series),
  };
}

function buildGauge(
  options: MetricOptions & { collect?: (set: GaugeMetric['set']) => void | Promise<void> },
): Built<GaugeMetric> {
  const { collect } = options;
  const series = new MetricSeries(options.labels ?? [], () => ({ value: 0 }));
  const metric: GaugeMetric = {
    set(value, labels = {}) {
      series.of(labels).value = value;
    },
    inc(labels = {}, by = 1) {
      series.of(labels).value += by;
    },
    dec(labels = {}, by = 1) {
      series.of(labels).value -= by;
    },
  };
  return {
    metric,
    async family() {
      if (collect) {
        series.clear(); // what is not set again is gone
        try {
          await collect(metric.set);
        } catch {
          // What cannot be read now is absent; the other metrics of the scrape are not.
        }
      }
      return familyOf('gauge', options, series);
    },
  };
}

function buildHistogram(options: MetricOptions & { buckets: readonly number[] }): Built<HistogramMetric> {
  const histogram = new Histogram(options);
  return { metric: histogram, family: () => histogram.family() };
}

/** CPU, memory, file descriptors, event loop and garbage collection of this process, as prom-client names them. */
function processFamilies(): () => Promise<Family[]> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return async () => {
    const families = await registry.getMetricsAsJSON();
    return families.map(({ name, help, type, values }) => ({
      name,
      help,
      type: String(type),
      samples: (values ?? []).map((sample) => ({
        name: (sample as { metricName?: string }).metricName ?? name,
        labels: formatLabels(sample.labels as Labels),
        value: sample.value,
      })),
    }));
  };
}

/**
 * The registry of one process; every series carries the label service="<service>". `processMetrics` adds CPU, memory,
 * event-loop and host series.
 */
export function createMetrics(service: string, options: { processMetrics?: boolean } = {}): Metrics {
  const built = new Map<string, { kind: Kind } & Built<CounterMetric | GaugeMetric | HistogramMetric>>();
  const ofProcess = options.processMetrics ? processFamilies() : null;
  /** Asking again for a name gives the same metric: two servers of one process share their series. */
  function once<M extends CounterMetric | GaugeMetric | HistogramMetric>(
    kind: Kind,
    name: string,
    build: () => Built<M>,
  ): M {
    checkName(kind, name);
    const known = built.get(name);
    if (known) {
      assert(known.kind === kind, `metric "${name}" is a ${known.kind}, not a ${kind}`);
      return known.metric as M;
    }
    const fresh = build();
    built.set(name, { kind, ...fresh });
    return fresh.metric;
  }
  async function families(): Promise<Family[]> {
    const own = await Promise.all([...built.values()].map((one) => one.family()));
    return [...own, ...((await ofProcess?.()) ?? [])];
  }
  async function render(format: MetricFormat = 'prometheus', keep = (_name: string): boolean => true): Promise<string> {
    const kept = (await families()).filter(({ name }) => keep(name));
    return renderFamilies(kept, formatLabels({ service }), format);
  }
  const metrics: Metrics = {
    service,
    families,
    render: (format) => render(format),
    async scrape(accept, keep) {
      const format = formatFor(accept);
      return { contentType: CONTENT_TYPES[format], text: await render(format, keep) };
    },
    counter: (metric) => once('counter', metric.name, () => buildCounter(metric)),
    gauge: (metric) => once('gauge', metric.name, () => buildGauge(metric)),
    histogram: (metric) => once('histogram', metric.name, () => buildHistogram(metric)),
  };
  if (options.processMetrics) watchHost(metrics);
  return metrics;
}

export type MetricsListener = { readonly address: string; readonly port: number; close(): Promise<void> };

/** Answers GET /metrics, and GET /healthz and /readyz for orchestrators. Port 0 takes a free one. */
export function serveMetrics(options: {
  port: number;
  host: string;
  metrics: Metrics;
  ready?: () => boolean;
}): Promise<MetricsListener> {
  const { metrics, ready } = options;
  const server = createServer(async (request, response) => {
    const path = (request.url ?? '/').split('?')[0];
    if (path === '/metrics') {
      const { contentType, text } = await metrics.scrape(request.headers.accept);
      response.writeHead(200, { 'content-type': contentType }).end(text);
    } else if (path === '/healthz' || path === '/readyz') {
      const ok = path === '/healthz' || (ready?.() ?? true);
      response.writeHead(ok ? 200 : 503, { 'content-type': 'text/plain' }).end(ok ? 'ok\n' : 'not ready\n');
    } else {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('expected /metrics, /healthz or /readyz\n');
    }
  });
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const address = `${options.host}:${options.port}`;
      const message = `metrics cannot listen on ${address}: ${cause.message}; choose another address or stop what uses it`;
      reject(new QuernError('UNAVAILABLE', message, { reason: 'LISTEN_FAILED' }, { cause }));
    });
    server.listen(options.port, options.host, () => {
      const { port } = server.address() as AddressInfo;
      resolve({
        address: `${options.host}:${port}`,
        port,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}
