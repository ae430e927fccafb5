/** Which processes a one-machine mesh consists of, with their environments. Pure: the supervisor runs it. */
import { join } from 'node:path';
import type { ServedModel } from './model-folder.ts';

export type UpOptions = {
  models: ServedModel[];
  http: string;
  grpc: string;
  threads: number | undefined;
  dtype: string | undefined;
  contextLength: number | undefined;
  /** Loopback ports for GET /metrics: one per engine. */
  metricsPorts: number[];
  /** Where the unix sockets lie; 0700. */
  runtimeDir: string;
  /** The checkout. */
  root: string;
  /** Node that runs the services. */
  node: string;
  env: NodeJS.ProcessEnv;
};

export type PlannedProcess = {
  name: string;
  kind: 'tokenizer' | 'engine' | 'gateway';
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  /** Address inside the mesh, or the public ones of the gateway. */
  addresses: string[];
  /** Where GET /metrics answers, if it does. */
  metrics: string | undefined;
};

/** Tokenizer, one engine per model, gateway last: the order of starting. */
export function planProcesses(options: UpOptions): PlannedProcess[] {
  const socket = (name: string): string => `unix://${join(options.runtimeDir, `${name}.sock`)}`;
  const tokenizer = socket('tokenizer');
  const engines = options.models.map((model, index) => ({ model, address: socket(`engine-${index}`), index }));
  const planned = (
    kind: PlannedProcess['kind'],
    name: string,
    settings: Record<string, string | undefined>,
    addresses: string[],
  ): PlannedProcess => ({
    name,
    kind,
    command: options.node,
    args: [join(options.root, 'services', kind, 'main.ts')],
    env: { ...options.env, ...withoutUndefined(settings) },
    addresses,
    metrics: settings.QUERN_ENGINE_METRICS_LISTEN,
  });
  return [
    planned(
      'tokenizer',
      'tokenizer',
      {
        QUERN_TOKENIZER_MODELS: options.models.map(({ name, dir }) => `${name}=${dir}`).join(','),
        QUERN_TOKENIZER_LISTEN: tokenizer,
      },
      [tokenizer],
    ),
    ...engines.map(({ model, address, index }) =>
      planned(
        'engine',
        options.models.length === 1 ? 'engine' : `engine-${index} (${model.name})`,
        {
          QUERN_ENGINE_MODEL_NAME: model.name,
          QUERN_ENGINE_MODEL_DIR: model.dir,
          QUERN_ENGINE_LISTEN: address,
          QUERN_ENGINE_METRICS_LISTEN: metricsAddress(options, index),
          QUERN_ENGINE_THREADS: options.threads === undefined ? undefined : String(options.threads),
          QUERN_ENGINE_DTYPE: options.dtype,
          QUERN_ENGINE_CONTEXT_LENGTH: options.contextLength === undefined ? undefined : String(options.contextLength),
        },
        [address],
      ),
    ),
    planned(
      'gateway',
      'gateway',
      {
        QUERN_GATEWAY_HTTP_LISTEN: options.http,
        QUERN_GATEWAY_GRPC_LISTEN: options.grpc,
        QUERN_GATEWAY_TOKENIZER: tokenizer,
        QUERN_GATEWAY_ENGINES: engines.map(({ model, address }) => `${model.name}=${address}`).join(';'),
      },
      [options.http, options.grpc],
    ),
  ];
}

function metricsAddress({ metricsPorts }: UpOptions, index: number): string | undefined {
  const port = metricsPorts[index];
  return port === undefined ? undefined : `127.0.0.1:${port}`;
}

function withoutUndefined(env: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
