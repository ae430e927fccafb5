// The engine process. A crash of native code (abort, segmentation fault) kills it with a non-zero status by itself.
import { createLifecycle, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { startTracing, type Tracing } from '#kit/otlp/tracing.ts';
import { reportReady } from '#kit/parent.ts';
import { readConfig } from './config.ts';
import { type EngineService, startEngine } from './service.ts';

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog({ service: 'engine', level: config.logLevel });
  const metrics = createMetrics('engine', { processMetrics: true });
  let service: EngineService | null = null;
  let tracing: Tracing | null = null;
  const lifecycle = createLifecycle({
    log,
    drainGraceMs: config.drainGraceMs,
    steps: [
      {
        name: 'tracing', // first, so that it stops last: the others' last spans still go out
        async start() {
          tracing = await startTracing({ service: 'engine', config: config.tracing, log, metrics });
        },
        stop: () => tracing?.close(),
      },
      {
        name: 'engine',
        async start({ signal }) {
          service = await startEngine({
            config,
            log,
            metrics,
            signal,
            traceSteps: config.traceSteps,
            vllmSpanNames: config.tracing.vllmNames,
            ...(tracing && { spans: tracing.spans }),
          });
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
