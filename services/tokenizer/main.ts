// The tokenizer process.
import { QuernError } from '#kit/errors.ts';
import { createLifecycle } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { reportFatal, reportReady } from '#kit/parent.ts';
import { readConfig } from './config.ts';
import { startTokenizer, type TokenizerService } from './service.ts';

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog({ service: 'tokenizer', level: config.logLevel });
  const metrics = createMetrics('tokenizer', { processMetrics: true });
  let service: TokenizerService | null = null;
  const lifecycle = createLifecycle({
    log,
    drainGraceMs: config.drainGraceMs,
    steps: [
      {
        name: 'tokenizer',
        async start({ signal }) {
          service = await startTokenizer({ config, log, metrics, signal });
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

main().catch((error) => {
  const message = error instanceof QuernError ? error.message : String(error?.stack ?? error);
  reportFatal(message);
  process.stderr.write(`tokenizer: ${message}\n`);
  process.exitCode = 1;
});
