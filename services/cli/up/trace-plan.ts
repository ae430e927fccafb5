/** Where a one-machine mesh shows its traces: an own Jaeger, one that the environment names, or none and why. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ProgramPlaces } from './built-programs.ts';
import {
  findJaeger,
  GET_JAEGER,
  JAEGER_UI_PORT,
  type JaegerPorts,
  jaegerConfiguration,
  OTLP_HTTP_PORT,
} from './jaeger.ts';
import { endsWithUs } from './nats-server.ts';
import { findFreePort } from './ports.ts';
import type { PartRow } from './reporter.ts';

export type OwnJaeger = { ports: JaegerPorts; words: string[]; pidFile: string };

export type TracePlan =
  /** --no-traces: nothing is exported. */
  | { kind: 'off' }
  /** The environment says where to. */
  | { kind: 'elsewhere'; endpoint: string }
  /** There is no Jaeger on this machine. */
  | { kind: 'absent' }
  | { kind: 'own'; own: OwnJaeger };

export type TraceSettings = {
  /** --no-traces. */
  off: boolean;
  /** Where spans go by the environment. */
  otlpEndpoint: string | undefined;
  /** Where a Jaeger may be. */
  places: ProgramPlaces;
  stateDir: string;
};

const HEALTH_PORT = 13_133;

/** Finds a Jaeger, chooses its ports and writes its configuration. */
export async function planTraces(settings: TraceSettings): Promise<TracePlan> {
  const { off, otlpEndpoint, places, stateDir } = settings;
  if (off) return { kind: 'off' };
  if (otlpEndpoint !== undefined) return { kind: 'elsewhere', endpoint: otlpEndpoint };
  const jaeger = findJaeger(places);
  if (!jaeger) return { kind: 'absent' };
  const otlp = await findFreePort(OTLP_HTTP_PORT, []);
  const ui = await findFreePort(JAEGER_UI_PORT, [otlp]);
  const ports = { otlp, ui, health: await findFreePort(HEALTH_PORT, [otlp, ui]) };
  const dir = join(stateDir, 'jaeger');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  // One file per mesh: two meshes of one user may share a state folder.
  const config = join(dir, `jaeger-${ports.otlp}.json`);
  writeFileSync(config, jaegerConfiguration(ports, jaeger), { mode: 0o600 });
  const words = [...(await endsWithUs()), jaeger.path, '--config', config];
  return { kind: 'own', own: { ports, words, pidFile: join(dir, `jaeger-${ports.otlp}.pid`) } };
}

/** What the services are told. */
export function traceEnv(plan: TracePlan): Record<string, string> {
  if (plan.kind === 'off') return { QUERN_OTLP_ENDPOINT: '', OTEL_EXPORTER_OTLP_ENDPOINT: '' };
  return plan.kind === 'own' ? { QUERN_OTLP_ENDPOINT: `http://127.0.0.1:${plan.own.ports.otlp}` } : {};
}

/** Where a person looks; null when that is not known here. */
export function traceUi(plan: TracePlan): string | null {
  return plan.kind === 'own' ? `http://127.0.0.1:${plan.own.ports.ui}` : null;
}

/** Rows of the table for what is not started here. */
export function traceRows(plan: TracePlan): PartRow[] {
  const row = (where: string, what: string): PartRow[] => [{ name: 'jaeger', pid: null, where, what }];
  if (plan.kind === 'elsewhere') return row(plan.endpoint, 'not started here; spans go there');
  if (plan.kind !== 'absent') return [];
  return row('', `none on PATH; traces are not kept. "${GET_JAEGER}" builds one (15 minutes), then start again`);
}
