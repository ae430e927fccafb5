/** The Jaeger of a one-machine mesh: where it is found and its configuration. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { builtFolders, findPrograms, type ProgramPlaces } from './built-programs.ts';

export type Jaeger = {
  path: string;
  /** Folder of the built UI; null: what the program brings itself, which may be a page without the UI. */
  uiDir: string | null;
};

/** What makes one where there is none. */
export const GET_JAEGER = 'node scripts/get-jaeger.mjs';
/** Where people look for it. */
export const JAEGER_UI_PORT = 16_686;
export const OTLP_HTTP_PORT = 4318;
/** Traces in memory: about a day of one person's completions, a few hundred megabytes at most. */
const TRACES_MAX = 20_000;

/** The first `jaeger` on PATH or in a cache folder, or null. */
export function findJaeger(places: ProgramPlaces): Jaeger | null {
  const [found] = findPrograms(places, 'jaeger', 'jaeger-1.');
  if (found === undefined) return null;
  const uis = builtFolders(places.caches, 'jaeger-ui-');
  return { path: found, uiDir: uis.find((dir) => existsSync(join(dir, 'index.html'))) ?? null };
}

export type JaegerPorts = { otlp: number; ui: number; health: number };

/**
 * Jaeger's configuration, as JSON, which YAML contains: OTLP over HTTP in, memory as storage, the query API and the UI out;
 * loopback only. Start it with `--config FILE`.
 */
export function jaegerConfiguration(ports: JaegerPorts, { uiDir }: Pick<Jaeger, 'uiDir'>): string {
  const endpoint = (port: number) => ({ endpoint: `127.0.0.1:${port}` });
  const query = {
    storage: { traces: 'memory' },
    http: endpoint(ports.ui),
    grpc: endpoint(0),
    ...(uiDir !== null && { ui: { assets_path: uiDir } }),
  };
  const whole = {
    service: {
      extensions: ['jaeger_storage', 'jaeger_query', 'healthcheckv2'],
      pipelines: { traces: { receivers: ['otlp'], processors: ['batch'], exporters: ['jaeger_storage_exporter'] } },
      // It would trace itself to a port where nobody listens, and warn of that for ever.
      telemetry: { metrics: { level: 'none' }, logs: { level: 'error' } },
    },
    extensions: {
      jaeger_storage: { backends: { memory: { memory: { max_traces: TRACES_MAX } } } },
      jaeger_query: query,
      healthcheckv2: { use_v2: true, http: endpoint(ports.health) },
    },
    receivers: { otlp: { protocols: { http: endpoint(ports.otlp) } } },
    processors: { batch: { timeout: '200ms' } },
    exporters: { jaeger_storage_exporter: { trace_storage: 'memory' } },
  };
  return `${JSON.stringify(whole, null, 2)}\n`;
}

/** True once it takes spans and answers queries. */
export async function jaegerAnswers({ ui, health }: JaegerPorts): Promise<boolean> {
  const asked = [`http://127.0.0.1:${health}/status`, `http://127.0.0.1:${ui}/api/v3/services`];
  const answers = await Promise.all(asked.map((url) => fetch(url).catch(() => null)));
  return answers.every((answer) => answer?.ok === true);
}
