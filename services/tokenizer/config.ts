// The tokenizer's settings from the environment. The only file here that reads it.
import { resolve } from 'node:path';
import { bytes, duration_ms, int, list, oneOf, readEnv, str } from '#kit/env.ts';
import { QuernError } from '#kit/errors.ts';
import { type InternalAccess, internalEnv, internalProblems, takeInternal } from '#kit/internal-access.ts';
import { DRAIN_GRACE_MS } from '#kit/limits.ts';
import { type MetricsAddress, metricsListenField, parseMetricsListen } from '#kit/metrics-listen.ts';
import { type TracingConfig, takeTracing, tracingEnv } from '#kit/otlp/settings.ts';
import { TEXT_BYTES_DEFAULT, TEXT_BYTES_MAX } from './limits.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export const tokenizerEnv = {
  models: list('QUERN_TOKENIZER_MODELS', {
    doc: 'Served models and their Hugging Face folders',
    pattern: /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}=.+$/,
    expected: 'name=folder items',
  }),
  listen: str('QUERN_TOKENIZER_LISTEN', {
    doc: 'Where the service listens, unix:///path, or host:port with a shared token or mutual TLS',
    default: '127.0.0.1:50052',
  }),
  maxTextBytes: bytes('QUERN_TOKENIZER_MAX_TEXT_BYTES', {
    doc: 'All text of one request',
    default: TEXT_BYTES_DEFAULT,
    min: 1024,
    max: TEXT_BYTES_MAX,
  }),
  contextLength: int('QUERN_TOKENIZER_CONTEXT_LENGTH', {
    doc: "Tokens that an infill prompt may have when the request does not say. Absent: the model's own context length",
    default: null,
    min: 64,
  }),
  metricsListen: metricsListenField('QUERN_TOKENIZER_METRICS_LISTEN', 9152),
  drainGraceMs: duration_ms('QUERN_TOKENIZER_DRAIN_GRACE', {
    doc: 'How long running calls may go on after SIGTERM',
    default: DRAIN_GRACE_MS,
    min: 0,
  }),
  ...internalEnv,
  ...tracingEnv,
  logLevel: oneOf('QUERN_LOG_LEVEL', LOG_LEVELS, { doc: 'Least level that is logged', default: 'info' }),
};

export type TokenizerConfig = {
  /** In the order given. */
  models: { name: string; dir: string }[];
  listen: string;
  maxTextBytes: number;
  /** Null: the model's own. */
  contextLength: number | null;
  metricsListen: MetricsAddress | null;
  drainGraceMs: number;
  internal: InternalAccess;
  logLevel: (typeof LOG_LEVELS)[number];
};

function invalid(variable: string, description: string): QuernError {
  const fields = [{ field: variable, description }];
  return new QuernError('INVALID_ARGUMENT', `${variable}: ${description}`, { reason: 'CONFIG_INVALID', fields });
}

function parseModels(items: readonly string[]): TokenizerConfig['models'] {
  const models = items.map((item) => {
    const at = item.indexOf('=');
    return { name: item.slice(0, at), dir: resolve(item.slice(at + 1)) };
  });
  const twice = models.find(({ name }, index) => models.findIndex((other) => other.name === name) !== index);
  if (!twice) return models;
  throw invalid('QUERN_TOKENIZER_MODELS', `expected each name once, got "${twice.name}" twice; rename one`);
}

/** Throws INVALID_ARGUMENT, reason CONFIG_INVALID, naming each variable that is wrong. */
export function readConfig(env: NodeJS.ProcessEnv): TokenizerConfig & { tracing: TracingConfig } {
  const values = readEnv(env, tokenizerEnv, {
    check: (given) => internalProblems(given, [{ name: tokenizerEnv.listen.name, address: given.listen }]),
  });
  const { metricsListen, ...rest } = takeTracing(takeInternal(values));
  return { ...rest, models: parseModels(values.models), metricsListen: parseMetricsListen(metricsListen) };
}
