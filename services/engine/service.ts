// The engine service: loads the model, then serves it.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineServiceService } from '#gen/quern/engine/v1/engine.ts';
import { MODEL_REJECTED, QuernError, toQuernError } from '#kit/errors.ts';
import { serverAccess } from '#kit/internal-access.ts';
import type { Log } from '#kit/log.ts';
import { type Metrics, type MetricsListener, serveMetrics } from '#kit/metrics.ts';
import { reportFatal, reportProgress } from '#kit/parent.ts';
import { defineService, type RpcServer, startRpcServer } from '#kit/rpc/server.ts';
import { noSpans, type SpanSink } from '#kit/trace.ts';
import type { EngineConfig } from './config.ts';
import type { EngineContext } from './context.ts';
import { createEngineMetrics, type EngineMetrics } from './engine-metrics.ts';
import { REJECTION_SHOWN_MS, TRACE_STEP_EVERY, WATCH_INTERVAL_MS } from './limits.ts';
import { type NativeEngine, openNativeEngine } from './native.ts';
import { SpanWriter } from './request-spans.ts';
import { abort } from './rpc/abort.ts';
import { describe } from './rpc/describe.ts';
import { drain } from './rpc/drain.ts';
import { generate } from './rpc/generate.ts';
import { getLoad } from './rpc/get-load.ts';
import { session } from './rpc/session.ts';
import { createStepWatch } from './step-watch.ts';
import { TokenStreams } from './token-streams.ts';

const SERVICE = 'quern.engine.v1.EngineService';

export type EngineServiceOptions = {
  config: EngineConfig;
  log: Log;
  metrics: Metrics;
  /** Takes the requests' spans. Default: nowhere. */
  spans?: SpanSink;
  /** One engine step of this many is shown; 0: only slow ones. Default TRACE_STEP_EVERY. */
  traceSteps?: number;
  /** Write vLLM's span attribute names beside ours. */
  vllmSpanNames?: boolean;
  signal?: AbortSignal;
};

export type EngineService = {
  readonly address: string;
  readonly modelName: string;
  readonly native: NativeEngine;
  drain(options: { graceMs: number }): Promise<void>;
  close(): Promise<void>;
};

async function openEngine({ config, log, signal }: EngineServiceOptions): Promise<NativeEngine> {
  const begun = performance.now();
  const native = await openNativeEngine({
    addonPath: config.addonPath,
    engine: { ...config, blockSize: null },
    onProgress: (phase, done, total) => reportProgress({ phase: `loading ${phase}`, done, total }),
    ...(signal && { signal }),
  });
  const { model } = native;
  log.info(
    {
      model: config.modelName,
      dir: config.modelDir,
      architecture: model.architecture,
      dtype: model.dtype,
      backend: model.backend,
      isa: model.isa,
      compute_threads: model.threads,
      context_length: model.contextLength,
      num_blocks: model.numBlocks,
      weight_bytes: model.weightBytes,
      kv_bytes: model.kvBytes,
      load_ms: Math.round(performance.now() - begun),
    },
    'model loaded',
  );
  return native;
}

/**
 * Answers whoever asks for a while that the model is refused and why, so that the gateway can record it; a supervisor is told
 * at once. Never throws: what the caller has to throw is the refusal.
 */
async function showRejection({ config, log, metrics, signal }: EngineServiceOptions, error: QuernError): Promise<void> {
  const { code, message } = error;
  log.error({ model: config.modelName, dir: config.modelDir, code, error: message }, 'model rejected');
  reportFatal(message, MODEL_REJECTED);
  const refuse = (): never => {
    throw error;
  };
  const service = defineService(EngineServiceService, {
    session: refuse,
    generate: refuse,
    abort: refuse,
    describe: refuse,
    getLoad: refuse,
    drain: refuse,
  });
  try {
    const server = await startRpcServer({
      service: 'engine',
      listen: [config.listen],
      services: [service],
      ...serverAccess(config.internal),
      requireDeadline: true,
      log,
      metrics,
    });
    await sleep(REJECTION_SHOWN_MS, undefined, { ...(signal && { signal }) }).catch(() => {});
    await server.close();
  } catch (cause) {
    log.warn({ err: cause }, 'nobody can be told that the model is rejected');
  }
}

function bind(context: EngineContext) {
  return defineService(EngineServiceService, {
    session: (incoming, call, out) => session(context, incoming, call, out),
    generate: (request, call, out) => generate(context, request, call, out),
    abort: async (request) => abort(context, request),
    describe: async () => describe(context),
    getLoad: async () => getLoad(context),
    drain: (request, call, out) => drain(context, request, call, out),
  });
}

/** Looks at the engine once a second: health, and counts that only the engine keeps. */
function watch(options: {
  context: EngineContext;
  server: RpcServer;
  metrics: EngineMetrics;
  stallMs: number;
  log: Log;
}): () => void {
  const { context, server, log } = options;
  const steps = createStepWatch(options.stallMs);
  let serving = true;
  const timer = setInterval(() => {
    const load = context.native.load();
    options.metrics.follow(load);
    const healthy = steps.look(context.now_ms(), load);
    if (healthy === serving) return;
    serving = healthy;
    const state = { running: load.running, waiting: load.waiting, steps: load.steps };
    if (healthy) log.info(state, 'engine steps again');
    else log.error({ ...state, stall_ms: options.stallMs }, 'work waits but no engine step finishes');
    for (const name of ['', SERVICE]) server.setServing(name, healthy && !context.draining.aborted);
  }, WATCH_INTERVAL_MS);
  return () => clearInterval(timer);
}

function createContext(options: EngineServiceOptions, native: NativeEngine) {
  const { config, metrics: registry, spans = noSpans } = options;
  const draining = new AbortController();
  const now_ms = (): number => performance.now();
  const metrics: EngineMetrics = createEngineMetrics({
    metrics: registry,
    model: config.modelName,
    load: () => native.load(),
    blockSize: native.model.blockSize,
    orphans: () => streams.orphanCount,
    emptySlots: () => streams.emptySlots(native.model.blockSize),
  });
  const streams: TokenStreams = new TokenStreams({
    native,
    metrics,
    spans: new SpanWriter({
      sink: spans,
      model: config.modelName,
      stepEvery: options.traceSteps ?? TRACE_STEP_EVERY,
      vllmNames: options.vllmSpanNames ?? false,
    }),
    now_ms,
  });
  const context: EngineContext = {
    native,
    streams,
    modelName: config.modelName,
    instanceId: randomUUID(),
    draining: draining.signal,
    startDrain() {
      if (draining.signal.aborted) return;
      native.drain();
      draining.abort();
    },
    now_ms,
  };
  return { context, metrics };
}

async function listen(options: EngineServiceOptions, context: EngineContext): Promise<RpcServer> {
  const { config, log, metrics, spans } = options;
  const server = await startRpcServer({
    service: 'engine',
    listen: [config.listen],
    services: [bind(context)],
    ...serverAccess(config.internal),
    requireDeadline: true,
    log,
    metrics,
    ...(spans && { spans }),
  });
  context.draining.addEventListener('abort', () => {
    for (const name of ['', SERVICE]) server.setServing(name, false);
  });
  return server;
}

/** Loads the model, then listens. Throws one QuernError when the model or an address does not work. */
export async function startEngine(options: EngineServiceOptions): Promise<EngineService> {
  const { config, log, metrics } = options;
  const native = await openEngine(options).catch(async (error: unknown) => {
    const isRefusal = error instanceof QuernError && error.details.reason === MODEL_REJECTED;
    if (isRefusal && !options.signal?.aborted) await showRejection(options, error);
    throw error;
  });
  const { context, metrics: engineMetrics } = createContext(options, native);
  let server: RpcServer | null = null;
  let scrape: MetricsListener | null = null;
  try {
    server = await listen(options, context);
    if (config.metricsListen) {
      const ready = (): boolean => !context.draining.aborted;
      scrape = await serveMetrics({ ...config.metricsListen, metrics, ready });
    }
  } catch (error) {
    await server?.close();
    await native.close();
    throw toQuernError(error);
  }
  const listening = server;
  const stopWatching = watch({
    context,
    server: listening,
    metrics: engineMetrics,
    stallMs: config.stallMs,
    log,
  });
  for (const name of ['', SERVICE]) listening.setServing(name, true);
  let closing: Promise<void> | null = null;
  return {
    address: listening.addresses[0]!,
    modelName: config.modelName,
    native,
    async drain({ graceMs }) {
      context.startDrain();
      await listening.drain(graceMs);
    },
    close() {
      closing ??= (async () => {
        stopWatching();
        await scrape?.close();
        await listening.close();
        await native.close();
      })();
      return closing;
    },
  };
}
