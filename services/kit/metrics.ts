// Prometheus metrics with units in their names, one registry per process.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { assert } from './assert.ts';
import { QuernError } from './errors.ts';

/** vLLM's buckets (peers.md §3), seconds, with lower ones in front: a code completion answers in tens of milliseconds. */
export const TTFT_BUCKETS_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
  2560,
];
export const ITL_BUCKETS_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
export const LATENCY_BUCKETS_SECONDS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960,
  1920, 7680,
];
/** Calls between our own processes: half a millisecond is usual. */
export const RPC_BUCKETS_SECONDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
];
/** Token counts, powers of two. */
export const TOKEN_BUCKETS = [
  1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072,
];

export type Labels = Record<string, string | number>;
export type CounterMetric = { inc(labels?: Labels, by?: number): void };
export type GaugeMetric = {
  set(value: number, labels?: Labels): void;
  inc(labels?: Labels, by?: number): void;
  dec(labels?: Labels, by?: number): void;
};
export type HistogramMetric = { observe(value: number, labels?: Labels): void };

export type MetricOptions = {
  /** quern_<what>_<unit>; counters end in _total. A vLLM alias is written vllm:<name>. */
  name: string;
  help: string;
  labels?: readonly string[];
};

export type Metrics = {
  readonly service: string;
  counter(options: MetricOptions): CounterMetric;
  /** `collect` is called at each scrape with a setter, for values that are cheaper to read than to follow. */
  gauge(options: MetricOptions & { collect?: (set: GaugeMetric['set']) => void }): GaugeMetric;
  histogram(options: MetricOptions & { buckets: readonly number[] }): HistogramMetric;
  /** The text exposition format. */
  render(): Promise<string>;
  readonly contentType: string;
};

const NAME = /^(?:quern_[a-z0-9_]+|vllm:[a-z0-9_]+)$/;
const HISTOGRAM_UNIT = /_(?:seconds|bytes|tokens|ratio|count)$/;

function checkName(kind: 'counter' | 'gauge' | 'histogram', name: string): void {
  assert(NAME.test(name), `metric name "${name}": expected quern_<what>_<unit> or vllm:<name>`);
  if (name.startsWith('vllm:')) return;
  if (kind === 'counter') assert(name.endsWith('_total'), `counter "${name}" must end in _total`);
  else assert(!name.endsWith('_total'), `${kind} "${name}" must not end in _total`);
  if (kind === 'histogram') {
    assert(HISTOGRAM_UNIT.test(name), `histogram "${name}" must end in _seconds, _bytes, _tokens, _ratio or _count`);
  }
}

/**
 * The registry of one process; every series carries the label service="<service>". `processMetrics` adds CPU, memory and
 * event-loop series.
 */
export function createMetrics(service: string, options: { processMetrics?: boolean } = {}): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  if (options.processMetrics) collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const built = new Map<string, CounterMetric | GaugeMetric | HistogramMetric>();
  /** Asking again for a name gives the same metric: two servers of one process share their series. */
  function once<M extends CounterMetric | GaugeMetric | HistogramMetric>(name: string, build: () => M): M {
    const metric = (built.get(name) as M | undefined) ?? build();
    built.set(name, metric);
    return metric;
  }
  return {
    service,
    contentType: registry.contentType,
    render: () => registry.metrics(),
    counter({ name, help, labels = [] }) {
      checkName('counter', name);
      return once<CounterMetric>(name, () => {
        const metric = new Counter({ name, help, labelNames: labels, registers });
        return { inc: (values = {}, by = 1) => metric.inc(values, by) };
      });
    },
    gauge({ name, help, labels = [], collect }) {
      checkName('gauge', name);
      return once<GaugeMetric>(name, () => {
        const metric: Gauge = new Gauge({
          name,
          help,
          labelNames: labels,
          registers,
          ...(collect && { collect: () => collect((value, values = {}) => metric.set(values, value)) }),
        });
        return {
          set: (value, values = {}) => metric.set(values, value),
          inc: (values = {}, by = 1) => metric.inc(values, by),
          dec: (values = {}, by = 1) => metric.dec(values, by),
        };
      });
    },
    histogram({ name, help, labels = [], buckets }) {
      checkName('histogram', name);
      return once<HistogramMetric>(name, () => {
        const metric = new Histogram({ name, help, labelNames: labels, buckets: [...buckets], registers });
        return { observe: (value, values = {}) => metric.observe(values, value) };
      });
    },
  };
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
      const text = await metrics.render();
      response.writeHead(200, { 'content-type': metrics.contentType }).end(text);
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
