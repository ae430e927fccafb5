// The engine's settings from the environment. The only file here that reads it.
import { fileURLToPath } from 'node:url';
import { bool, bytes, duration_ms, int, oneOf, path, readEnv, str } from '#kit/env.ts';
import { type InternalAccess, internalEnv, internalProblems, takeInternal } from '#kit/internal-access.ts';
import { DRAIN_GRACE_MS } from '#kit/limits.ts';
import { type MetricsAddress, metricsListenField, parseMetricsListen } from '#kit/metrics-listen.ts';
import { type TracingConfig, takeTracing, tracingEnv } from '#kit/otlp/settings.ts';
import { TRACE_STEP_EVERY } from './limits.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const ADDON_DEFAULT = fileURLToPath(new URL('../../engine-native/build/engine_addon.node', import.meta.url));

export const engineEnv = {
  modelName: str('QUERN_ENGINE_MODEL_NAME', {
    doc: 'Name under which the model is served',
    pattern: /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/,
    expected: '1 to 128 letters, digits and . _ : / -',
  }),
  modelDir: path('QUERN_ENGINE_MODEL_DIR', { doc: 'Hugging Face folder: config.json and *.safetensors' }),
  listen: str('QUERN_ENGINE_LISTEN', {
    doc: 'Where the service listens, unix:///path, or host:port with a shared token or mutual TLS',
    default: '127.0.0.1:50053',
  }),
  dtype: oneOf('QUERN_ENGINE_DTYPE', ['auto', 'f32', 'bf16'] as const, {
    doc: 'Type of weights and KV cache in memory',
    default: 'auto',
  }),
  backend: oneOf('QUERN_ENGINE_BACKEND', ['auto', 'cpu', 'cuda'] as const, {
    doc: 'Where the model runs',
    default: 'auto',
  }),
  isa: oneOf('QUERN_ENGINE_ISA', ['auto', 'portable', 'avx2', 'avx512', 'avx512bf16'] as const, {
    doc: 'CPU instruction set',
    default: 'auto',
  }),
  threads: int('QUERN_ENGINE_THREADS', {
    doc: 'Compute threads. Absent: what the machine and its cgroup allow',
    default: null,
    min: 1,
    max: 1024,
  }),
  contextLength: int('QUERN_ENGINE_CONTEXT_LENGTH', {
    doc: "Tokens per sequence, prompt and output. Absent: the model's, lowered to what fits into memory",
    default: null,
    min: 16,
  }),
  kvBytes: bytes('QUERN_ENGINE_KV_BYTES', {
    doc: 'Memory of the KV cache. Absent: a quarter of what is free, at most what all sequences at full length need',
    default: null,
    min: 65_536,
  }),
  maxNumSeqs: int('QUERN_ENGINE_MAX_NUM_SEQS', {
    doc: 'Sequences that run at once',
    default: 16,
    min: 1,
    max: 1024,
  }),
  maxNumBatchedTokens: int('QUERN_ENGINE_MAX_NUM_BATCHED_TOKENS', {
    doc: 'Token budget of one step. Absent: 512 on a CPU, 2048 on a GPU',
    default: null,
    min: 1,
    max: 16_384,
  }),
  maxWaiting: int('QUERN_ENGINE_MAX_WAITING', {
    doc: 'Sequences that may wait; more are refused with RESOURCE_EXHAUSTED',
    default: 1024,
    min: 1,
    max: 65_536,
  }),
  prefixCache: bool('QUERN_ENGINE_PREFIX_CACHE', { doc: 'Reuse the KV of common prefixes', default: true }),
  metricsListen: metricsListenField('QUERN_ENGINE_METRICS_LISTEN', 9153),
  stallMs: duration_ms('QUERN_ENGINE_STALL', {
    doc: 'Health says NOT_SERVING when work was there for this long and no step finished',
    default: 30_000,
    min: 1_000,
  }),
  drainGraceMs: duration_ms('QUERN_ENGINE_DRAIN_GRACE', {
    doc: 'How long running requests may go on after SIGTERM',
    default: DRAIN_GRACE_MS,
    min: 0,
  }),
  addonPath: path('QUERN_ENGINE_ADDON', { doc: 'The built addon', default: ADDON_DEFAULT }),
  traceSteps: int('QUERN_ENGINE_TRACE_STEPS', {
    doc: 'One engine step of this many becomes a trace of its own; slow ones always do. 0: only slow ones',
    default: TRACE_STEP_EVERY,
    min: 0,
  }),
  ...internalEnv,
  ...tracingEnv,
  logLevel: oneOf('QUERN_LOG_LEVEL', LOG_LEVELS, { doc: 'Least level that is logged', default: 'info' }),
};

export type EngineConfig = {
  modelName: string;
  modelDir: string;
  listen: string;
  dtype: 'auto' | 'f32' | 'bf16';
  backend: 'auto' | 'cpu' | 'cuda';
  isa: 'auto' | 'portable' | 'avx2' | 'avx512' | 'avx512bf16';
  /** Null: chosen by the engine. */
  threads: number | null;
  contextLength: number | null;
  kvBytes: number | null;
  maxNumSeqs: number;
  maxNumBatchedTokens: number | null;
  maxWaiting: number;
  prefixCache: boolean;
  metricsListen: MetricsAddress | null;
  stallMs: number;
  drainGraceMs: number;
  addonPath: string;
  internal: InternalAccess;
  logLevel: (typeof LOG_LEVELS)[number];
};

/** Throws INVALID_ARGUMENT, reason CONFIG_INVALID, naming each variable that is wrong. */
export function readConfig(env: NodeJS.ProcessEnv): EngineConfig & { tracing: TracingConfig; traceSteps: number } {
  const values = readEnv(env, engineEnv, {
    check: (given) => internalProblems(given, [{ name: engineEnv.listen.name, address: given.listen }]),
  });
  const { metricsListen, ...rest } = takeTracing(takeInternal(values));
  return { ...rest, metricsListen: parseMetricsListen(metricsListen) };
}
