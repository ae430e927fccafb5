// The tokenizer process.
import { createLifecycle, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { startTracing, type Tracing } from '#kit/otlp/tracing.ts';
import { reportReady } from '#kit/parent.ts';
import { readConfig } from './config.ts';
import { startTokenizer, type TokenizerService } from './service.ts';

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog({ service: 'tokenizer', level: config.logLevel });
  const metrics = createMetrics('tokenizer', { processMetrics: true });
  let service: TokenizerService | null = null;
  let tracing: Tracing | null = null;
  const lifecycle = createLifecycle({
    log,
    drainGraceMs: config.drainGraceMs,
    steps: [
      {
        name: 'tracing', // first, so that it stops last: the others' last spans still go out
        async start() {
          tracing = await startTracing({ service: 'tokenizer', config: config.tracing, log, metrics });
        },
        stop: () => tracing?.close(),
      },
      {
        name: 'tokenizer',
        async start({ signal }) {
          service = await startTokenizer({ config, log, metrics, signal, ...(tracing && { spans: tracing.spans }) });
        },
        ready() {
          if (!service) return;
          reportReady({ addresses: [service.address], models: service.models.map(({ name }) => name) });
        },
        drain: (options) => service?.drain(options),
        stop: () => service?.close(),
      },
    ],
  });
  await lifecycle.start();
}

await runMain('tokenizer', main);
