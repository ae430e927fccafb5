// A real Jaeger for one test: started on free ports, read through /api/v3 only, stopped with the test.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Jaeger, type JaegerPorts, jaegerAnswers, jaegerConfiguration } from '../../services/cli/up/jaeger.ts';
import { findFreePort } from '../../services/cli/up/ports.ts';
import type { TraceReader } from './mesh-traces.ts';
import type { Attributes, AttributeValue, ReceivedSpan } from './otlp-spans.ts';

const READY_TIMEOUT_MS = 20_000;
const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] as const;
const STATUSES = ['UNSET', 'OK', 'ERROR'] as const;

type JsonValue = {
  stringValue?: string;
  boolValue?: boolean;
  intValue?: string;
  doubleValue?: number;
  arrayValue?: { values?: JsonValue[] };
};
type JsonAttributes = { key: string; value: JsonValue }[];
type JsonSpan = {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  traceState?: string;
  name: string;
  kind?: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes?: JsonAttributes;
  events?: { name: string; timeUnixNano: string; attributes?: JsonAttributes }[];
  links?: { traceId: string; spanId: string }[];
  status?: { code?: number; message?: string };
};
type JsonTraces = {
  result?: { resourceSpans?: { resource?: { attributes?: JsonAttributes }; scopeSpans?: { spans?: JsonSpan[] }[] }[] };
};

function fromJson(value: JsonValue): AttributeValue {
  if (value.arrayValue) return (value.arrayValue.values ?? []).map(fromJson);
  if (value.intValue !== undefined) return Number(value.intValue);
  return value.stringValue ?? value.boolValue ?? value.doubleValue ?? '';
}

const attributesOf = (list: JsonAttributes = []): Attributes =>
  Object.fromEntries(list.map(({ key, value }) => [key, fromJson(value)]));

function spanOf(json: JsonSpan, service: string): ReceivedSpan {
  return {
    service,
    traceId: json.traceId,
    spanId: json.spanId,
    parentSpanId: json.parentSpanId ?? '',
    traceState: json.traceState ?? '',
    name: json.name,
    kind: KINDS[json.kind ?? 0] ?? 'UNSPECIFIED',
    startNs: BigInt(json.startTimeUnixNano),
    endNs: BigInt(json.endTimeUnixNano),
    attributes: attributesOf(json.attributes),
    events: (json.events ?? []).map(({ name, timeUnixNano, attributes }) => ({
      name,
      timeNs: BigInt(timeUnixNano),
      attributes: attributesOf(attributes),
    })),
    links: (json.links ?? []).map(({ traceId, spanId }) => ({ traceId, spanId })),
    status: { code: STATUSES[json.status?.code ?? 0] ?? 'UNSET', message: json.status?.message ?? '' },
  };
}

function spansOf({ result }: JsonTraces): ReceivedSpan[] {
  return (result?.resourceSpans ?? []).flatMap(({ resource, scopeSpans }) => {
    const service = String(attributesOf(resource?.attributes)['service.name'] ?? '');
    return (scopeSpans ?? []).flatMap(({ spans }) => (spans ?? []).map((span) => spanOf(span, service)));
  });
}

/** Spans of the queries of one Jaeger. */
export function jaegerReader(api: string, otlp: string): TraceReader & { get(path: string): Promise<unknown> } {
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(`${api}${path}`);
    if (response.status === 404) return {}; // nothing of that trace yet
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  return {
    url: otlp,
    get,
    async settled(traceId, enough) {
      const until = Date.now() + 20_000;
      for (;;) {
        const spans = spansOf((await get(`/api/v3/traces/${traceId}`)) as JsonTraces);
        if (enough(spans)) return spans;
        if (Date.now() > until) throw new Error(`Jaeger has not all of ${traceId}: ${spans.map((s) => s.name)}`);
        await sleep(100);
      }
    },
    async named(service, prefix) {
      const from = new Date(Date.now() - 3_600_000).toISOString();
      const until = new Date(Date.now() + 60_000).toISOString();
      // The parameters were renamed; versions on both sides of it are in use, and each ignores the other's names.
      const range = {
        'query.serviceName': service,
        'query.startTimeMin': from,
        'query.startTimeMax': until,
        'query.searchDepth': '1000',
        'query.service_name': service,
        'query.start_time_min': from,
        'query.start_time_max': until,
        'query.num_traces': '1000',
      };
      const found = spansOf((await get(`/api/v3/traces?${new URLSearchParams(range)}`)) as JsonTraces);
      return found.filter((span) => span.service === service && span.name.startsWith(prefix));
    },
  };
}

/** Starts it and waits until it takes spans and answers. */
export async function startJaeger(t: Pick<TestContext, 'after'>, jaeger: Jaeger) {
  const ports: JaegerPorts = {
    otlp: await findFreePort(undefined, []),
    ui: await findFreePort(undefined, []),
    health: await findFreePort(undefined, []),
  };
  const folder = mkdtempSync(join(tmpdir(), 'quern-jaeger-'));
  const config = join(folder, 'jaeger.json');
  writeFileSync(config, jaegerConfiguration(ports, jaeger));
  const child = spawn(jaeger.path, ['--config', config], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (piece: string) => {
      said = `${said}${piece}`.slice(-4_000);
    });
  }
  const exited = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGTERM');
    const kill = setTimeout(() => child.kill('SIGKILL'), 5_000);
    await exited;
    clearTimeout(kill);
    rmSync(folder, { recursive: true, force: true });
  });
  const until = Date.now() + READY_TIMEOUT_MS;
  while (!(await jaegerAnswers(ports))) {
    if (child.exitCode !== null || Date.now() > until) throw new Error(`Jaeger does not answer: ${said}`);
    await sleep(100);
  }
  return { ports, reader: jaegerReader(`http://127.0.0.1:${ports.ui}`, `http://127.0.0.1:${ports.otlp}`) };
}
