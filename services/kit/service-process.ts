// What every service's main.ts is: settings, log, metrics, tracing, then the service, and the life of the process around them.
import { createLifecycle, runMain } from './lifecycle.ts';
import { FAILED_EXIT_MS } from './limits.ts';
import { createLog, type Log, type LogLevel } from './log.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import type { TracingConfig } from './otlp/settings.ts';
import { startTracing, type Tracing } from './otlp/tracing.ts';
import { type ReadyInfo, reportFatal, reportReady } from './parent.ts';
import { noSpans, type SpanSink } from './trace.ts';

export type ProcessConfig = { logLevel: LogLevel; drainGraceMs: number; tracing: TracingConfig };

/** A service that runs. */
export type Running = {
  drain(options: { signal: AbortSignal; graceMs: number }): Promise<void>;
  close(): Promise<void>;
};

/** What a service is started with. `signal` aborts when the process is told to stop. */
export type StartOptions<C> = { config: C; log: Log; metrics: Metrics; spans: SpanSink; signal: AbortSignal };

export type ServiceProcess<C, S> = {
  config: () => C;
  start(options: StartOptions<C>): Promise<S>;
  /** What is told to the supervisor; called once everything listens. */
  ready(service: S): ReadyInfo;
  /**
   * Called after `ready` with what stops the process and ends it with 1: for what only a new start can heal, which a supervisor makes.
   */
  watch?(service: S, startAnew: (reason: Error) => void): void;
};

/** Runs a service as this process, until it is told to stop. */
export function runService<C extends ProcessConfig, S extends Running>(
  name: string,
  { config: read, start, ready, watch }: ServiceProcess<C, S>,
): Promise<void> {
  return runMain(name, async () => {
    const config = read();
    const { drainGraceMs } = config;
    const log = createLog({ service: name, level: config.logLevel });
    const metrics = createMetrics(name, { processMetrics: true });
    let tracing: Tracing | null = null;
    let service: S | null = null;
    const lifecycle = createLifecycle({
      log,
      drainGraceMs,
      steps: [
        {
          name: 'tracing', // first, so that it stops last: the others' last spans still go out
          async start() {
            tracing = await startTracing({ service: name, config: config.tracing, log, metrics });
          },
          stop: () => tracing?.close(),
        },
        {
          name,
          async start({ signal }) {
            service = await start({ config, log, metrics, spans: tracing?.spans ?? noSpans, signal });
          },
          ready() {
            if (!service) return;
            watch?.(service, (reason) => void startAnew(reason));
            reportReady(ready(service));
          },
          drain: (options) => service?.drain(options),
          stop: () => service?.close(),
        },
      ],
    });
    let isEnding = false;
    async function startAnew(reason: Error): Promise<void> {
      if (isEnding) return;
      isEnding = true;
      log.fatal({ err: reason }, 'exiting to start again');
      reportFatal(reason.message);
      setTimeout(() => process.exit(1), drainGraceMs + FAILED_EXIT_MS).unref(); // a disk that hangs holds nobody up
      await lifecycle.stop(reason.message);
      process.exit(1);
    }
    await lifecycle.start();
  });
}
