// Span export of one process: OTLP over HTTP with protobuf, for a service's main. Without an endpoint nothing is loaded.
import { randomUUID } from 'node:crypto';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { noSpans, type SpanSink } from '../trace.ts';
import { TRACE_EXPORT_TIMEOUT_MS, TRACE_LOG_MS } from './limits.ts';
import type { TracingConfig } from './settings.ts';
import { encodeSpan, requestEncoder } from './span-encoding.ts';
import { type DropReason, SpanQueue } from './span-queue.ts';

export type Tracing = {
  readonly spans: SpanSink;
  /** Sends the last spans, for a bounded time. Never rejects. */
  close(): Promise<void>;
};

export type TracingOptions = {
  /** service.name: "gateway". */
  service: string;
  config: TracingConfig;
  log: Log;
  metrics: Metrics;
  /** For tests. */
  flushMs?: number;
};

/** OpenTelemetry's transport (retries, TLS, headers and compression by its environment): loaded late, nobody needs it without export. */
async function createSender(service: string, url: string) {
  const [
    { convertLegacyHttpOptions, createOtlpHttpExportDelegate },
    { ProtobufTraceSerializer },
    { ExportResultCode },
  ] = await Promise.all([
    import('@opentelemetry/otlp-exporter-base/node-http'),
    import('@opentelemetry/otlp-transformer'),
    import('@opentelemetry/core'),
  ]);
  const encodeRequest = requestEncoder({
    'service.name': service,
    'service.namespace': 'quern',
    'service.instance.id': randomUUID(),
    'process.pid': process.pid,
  });
  const { deserializeResponse } = ProtobufTraceSerializer;
  const transport = createOtlpHttpExportDelegate<readonly Uint8Array[], unknown>(
    convertLegacyHttpOptions(
      { url, timeoutMillis: TRACE_EXPORT_TIMEOUT_MS, concurrencyLimit: 2 },
      'TRACES',
      'v1/traces',
      { 'Content-Type': 'application/x-protobuf' },
    ),
    { serializeRequest: encodeRequest, deserializeResponse } as never,
    'otlp_http_span_exporter',
    { name: 'span', countItems: (spans) => spans.length },
    undefined,
  );
  const send = (spans: readonly Uint8Array[]): Promise<void> =>
    new Promise((resolve, reject) => {
      transport.export(spans, ({ code, error }) => {
        if (code === ExportResultCode.SUCCESS) resolve();
        else reject(error ?? new Error('the collector refused the spans'));
      });
    });
  return { send, shutdown: () => transport.shutdown() };
}

/** Counts what was dropped and says it at once, then at most once a minute. */
function dropCounter(log: Log, metrics: Metrics, url: string) {
  const dropped = metrics.counter({
    name: 'quern_trace_spans_dropped_total',
    help: 'Spans that did not reach the collector, by reason',
    labels: ['reason'],
  });
  let linedAtMs = Number.NEGATIVE_INFINITY;
  let since = 0;
  return (count: number, reason: DropReason, cause?: unknown): void => {
    dropped.inc({ reason }, count);
    since += count;
    const nowMs = performance.now();
    if (nowMs - linedAtMs < TRACE_LOG_MS) return;
    const error = cause instanceof Error ? { error: cause.message || String((cause as { code?: unknown }).code) } : {};
    log.warn({ url, reason, dropped: since, ...error }, 'spans were dropped: the trace collector does not take them');
    linedAtMs = nowMs;
    since = 0;
  };
}

/** Starts the export, or none when there is no endpoint. A collector that is not there costs spans, never requests. */
export async function startTracing({ service, config, log, metrics, flushMs }: TracingOptions): Promise<Tracing> {
  const { url, ratio } = config;
  if (url === null) return { spans: noSpans, close: async () => {} };
  const sent = metrics.counter({ name: 'quern_trace_spans_sent_total', help: 'Spans that the collector took' });
  const { send, shutdown } = await createSender(service, url);
  const queue = new SpanQueue({
    encode: encodeSpan,
    send,
    rootRatio: ratio,
    onDropped: dropCounter(log, metrics, url),
    onSent: (count) => sent.inc({}, count),
    ...(flushMs !== undefined && { flushMs }),
  });
  log.info({ url, ratio }, 'spans are exported');
  return {
    spans: queue,
    async close() {
      await queue.close();
      // It waits for a POST that nobody answers, and rejects when the collector is gone: neither is of interest now.
      shutdown().catch(() => {});
    },
  };
}
