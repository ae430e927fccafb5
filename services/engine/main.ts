// The engine process. A crash of native code (abort, segmentation fault) kills it with a non-zero status by itself.
import { runService } from '#kit/service-process.ts';
import { readConfig } from './config.ts';
import { startEngine } from './service.ts';

await runService('engine', {
  config: () => readConfig(process.env),
  start: (options) => {
    const { traceSteps, tracing } = options.config;
    return startEngine({ ...options, traceSteps, vllmSpanNames: tracing.vllmNames });
  },
  ready: ({ address, native, modelName }) => {
    const { backend, isa, dtype, contextLength } = native.model;
    return { addresses: [address], model: modelName, backend, isa, dtype, contextLength };
  },
});
