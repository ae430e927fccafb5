// The audit process.
import { createLifecycle, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { startTracing, type Tracing } from '#kit/otlp/tracing.ts';
import { reportReady } from '#kit/parent.ts';
import { readConfig } from './config.ts';
import { FAILED_EXIT_MS } from './limits.ts';
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
  // A disk error: what the files hold is known again after a start, which whoever supervises this process makes, with back-off.
  const failure = await (service as AuditService | null)!.failed;
  log.fatal({ err: failure }, 'exiting to start again');
  setTimeout(() => process.exit(1), config.drainGraceMs + FAILED_EXIT_MS).unref(); // a disk that hangs holds nobody up
  await lifecycle.stop(failure.message);
  throw failure;
}

await runMain('audit', main);
