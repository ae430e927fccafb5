// The gateway process.
import { createLifecycle, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { startTracing, type Tracing } from '#kit/otlp/tracing.ts';
import { reportReady } from '#kit/parent.ts';
import { readConfig } from './config.ts';
import { type Gateway, startGateway } from './service.ts';

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog({ service: 'gateway', level: config.logLevel });
  const metrics = createMetrics('gateway', { processMetrics: true });
  let gateway: Gateway | null = null;
  let tracing: Tracing | null = null;
  const lifecycle = createLifecycle({
    log,
    drainGraceMs: config.drainGraceMs,
    steps: [
      {
        name: 'tracing', // first, so that it stops last: the others' last spans still go out
        async start() {
          tracing = await startTracing({ service: 'gateway', config: config.tracing, log, metrics });
        },
        stop: () => tracing?.close(),
      },
      {
        name: 'gateway',
        async start() {
          gateway = await startGateway({ config, log, metrics, ...(tracing && { spans: tracing.spans }) });
        },
        ready() {
          if (!gateway) return;
          const { audit } = gateway.context;
          audit.onChange(() => {
            if (audit.report?.required && audit.report.outbox === 'failed') void startAnew('the audit outbox failed');
          });
          const { httpAddress, grpcAddress } = gateway;
          reportReady({
            addresses: [`${config.tls ? 'https' : 'http'}://${httpAddress}`, grpcAddress],
            models: config.models.map((model) => model.name),
            audit: gateway.context.audit.report,
          });
        },
        drain: (options) => gateway?.drain(options),
        stop: () => gateway?.close(),
      },
    ],
  });
  /** What the disk has after an error of it shows only a start that reads it again: whoever supervises us makes one. */
  async function startAnew(reason: string): Promise<void> {
    await lifecycle.stop(reason);
    process.exit(1);
  }
  await lifecycle.start();
}

await runMain('gateway', main);
