// The engine process. A crash of native code (abort, segmentation fault) kills it with a non-zero status by itself.
import { createLifecycle, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { reportReady } from '#kit/parent.ts';
import { readConfig } from './config.ts';
import { type EngineService, startEngine } from './service.ts';

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog({ service: 'engine', level: config.logLevel });
  const metrics = createMetrics('engine', { processMetrics: true });
  let service: EngineService | null = null;
  const lifecycle = createLifecycle({
    log,
    drainGraceMs: config.drainGraceMs,
    steps: [
      {
        name: 'engine',
        async start({ signal }) {
          service = await startEngine({ config, log, metrics, signal });
        },
        ready() {
          if (!service) return;
          const { model } = service.native;
          reportReady({
            addresses: [service.address],
            model: config.modelName,
            backend: model.backend,
            isa: model.isa,
            dtype: model.dtype,
            contextLength: model.contextLength,
          });
        },
        drain: (options) => service?.drain(options),
        stop: () => service?.close(),
      },
    ],
  });
  await lifecycle.start();
}

await runMain('engine', main);
