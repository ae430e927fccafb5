/** The span of a command that calls a service itself: what the service records lies below it. */
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { takeTracing } from '#kit/otlp/settings.ts';
import { startTracing } from '#kit/otlp/tracing.ts';
import { type Span, startSpan } from '#kit/trace.ts';
import type { Io } from '../command.ts';
import { runningMeshes } from '../up/mesh-folder.ts';

const OTLP = /^OTLP (http:\/\/\S+)$/;

/** Where the mesh that this tool service is of has its spans sent; null: nowhere that is known here. */
function collectorOf(address: string, { config }: Io): string | null {
  const mesh = runningMeshes(config.runtimeParents).find(({ parts }) =>
    parts.some(({ kind, addresses }) => kind === 'tools' && addresses.includes(address)),
  );
  const addresses = mesh?.parts.filter(({ kind }) => kind === 'jaeger').flatMap((part) => part.addresses) ?? [];
  return addresses.flatMap((one) => OTLP.exec(one)?.[1] ?? []).at(0) ?? null;
}

/** Starts it. `end` sends it to the collector, for a bounded time; a collector that is gone is no failure. */
export async function startOwnSpan(
  name: string,
  address: string,
  io: Io,
): Promise<{ span: Span; end: (error: string | null) => Promise<void> }> {
  const otlpEndpoint = io.config.otlpEndpoint ?? collectorOf(address, io);
  const { tracing: config } = takeTracing({ otlpEndpoint, otelEndpoint: null, traceRatio: '1', vllmSpanNames: false });
  const log = createLog({ service: 'cli', level: 'silent' });
  const tracing = await startTracing({ service: 'cli', config, log, metrics: createMetrics('cli') });
  const span = startSpan(tracing.spans, name, null, { kind: 'client' });
  return {
    span,
    async end(error) {
      span.end({ error });
      await tracing.close();
    },
  };
}
