// The audit process.
import { createLifecycle, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { startTracing, type Tracing } from '#kit/otlp/tracing.ts';
import { reportReady } from '#kit/parent.ts';
import { readConfig } from './config.ts';
import { type AuditService, startAudit } from './service.ts';

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog({ service: 'audit', level: config.logLevel });
  const metrics = createMetrics('audit', { processMetrics: true });
  let service: AuditService | null = null;
  let tracing: Tracing | null = null;
  const lifecycle = createLifecycle({
    log,
    drainGraceMs: config.drainGraceMs,
    steps: [
      {
        name: 'tracing', // first, so that it stops last: the others' last spans still go out
        async start() {
          tracing = await startTracing({ service: 'audit', config: config.tracing, log, metrics });
        },
        stop: () => tracing?.close(),
      },
      {
        name: 'audit',
        async start() {
          service = await startAudit({ config, log, metrics, ...(tracing && { spans: tracing.spans }) });
        },
        ready() {
          if (service) reportReady({ addresses: [service.address] });
        },
        drain: (options) => service?.drain(options),
        stop: () => service?.close(),
      },
    ],
  });
  await lifecycle.start();
}

await runMain('audit', main);
