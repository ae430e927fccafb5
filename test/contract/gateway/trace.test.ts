// The gateway's part of a trace, as a collector receives it, for every way in which a request ends.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { CompleteRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { createKey } from '#kit/keys-file.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { startTracing } from '#kit/otlp/tracing.ts';
import { serverStream } from '#kit/rpc/client.ts';
import { extract, startTrace, type TraceContext } from '#kit/trace.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import { type Collector, startCollector } from '../../support/otlp-collector.ts';
import type { ReceivedSpan } from '../../support/otlp-spans.ts';
import { checkTrace, pictureOf } from '../../support/span-tree.ts';
import { eventually, type MeshOptions, startMesh, type TestMesh } from './fakes/mesh.ts';

const SECRET = 'a secret that nobody may read';

type Traced = { mesh: TestMesh; collector: Collector };

async function startTraced(t: TestContext, options: MeshOptions = {}): Promise<Traced> {
  const collector = await startCollector(t);
  const tracing = await startTracing({
    service: 'gateway',
    config: { url: `${collector.url}/v1/traces`, ratio: 1, vllmNames: false },
    log: createLog({ service: 'gateway', level: 'silent' }),
    metrics: createMetrics('tracing'),
    flushMs: 20,
  });
  t.after(() => tracing.close());
  const mesh = await startMesh(t, { ...options, spans: tracing.spans });
  return { mesh, collector };
}

function complete(mesh: TestMesh, trace: TraceContext, more: { signal?: AbortSignal; timeoutMs?: number } = {}) {
  const request: CompleteRequest = {
    ...CompleteRequest.decode(new Uint8Array(0)),
    prompt: { $case: 'text', value: SECRET },
    sampling: { ...emptySampling(), maxTokens: 40 },
  };
  return serverStream(mesh.completion, 'streamComplete', { request }, { trace, ...more });
}

async function drained(stream: AsyncIterable<unknown>): Promise<unknown> {
  try {
    for await (const _ of stream);
    return null;
  } catch (error) {
    return error;
  }
}

/** The whole trace once its server span is there, which ends last. */
async function traceOf({ collector }: Traced, trace: TraceContext, nested = true): Promise<ReceivedSpan[]> {
  const spans = await collector.settled(trace.traceId, (all) => all.some((span) => span.kind === 'SERVER'));
  checkTrace(spans, trace.spanId, { nested });
  assert.ok(!JSON.stringify(spans, (_, v) => (typeof v === 'bigint' ? String(v) : v)).includes('secret'));
  return spans;
}

const COMPLETE = 'quern.gateway.v1.CompletionService/StreamComplete';
const ENCODE = 'gateway quern.tokenizer.v1.TokenizerService/Encode CLIENT';
const HEAD = ['  gateway gateway.authorize INTERNAL', '  gateway gateway.admit INTERNAL', `  ${ENCODE}`];
const REST = ['  gateway gateway.admit INTERNAL', '  gateway gateway.route INTERNAL'];

test('success over gRPC: authorize, admit, encode, admit, route, generation', async (t) => {
  const traced = await startTraced(t);
  const trace = { ...startTrace(), tracestate: 'vendor=1' };
  assert.equal(await drained(complete(traced.mesh, trace)), null);
  const spans = await traceOf(traced, trace);
  assert.deepEqual(pictureOf(spans), [
    `gateway ${COMPLETE} SERVER`,
    ...HEAD,
    ...REST,
    '  gateway text_completion mock CLIENT',
  ]);
  const generation = spans.find((span) => span.name === 'text_completion mock') as ReceivedSpan;
  const submitted = extract(traced.mesh.engine.requests[0]?.traceparent, traced.mesh.engine.requests[0]?.tracestate);
  assert.deepEqual([submitted?.traceId, submitted?.spanId], [trace.traceId, generation.spanId]);
  assert.equal(submitted?.tracestate, 'vendor=1');
  const { attributes } = generation;
  assert.deepEqual(
    ['operation.name', 'provider.name', 'request.model', 'usage.output_tokens', 'response.finish_reasons'].map(
      (name) => attributes[`gen_ai.${name}`],
    ),
    ['text_completion', 'quern', 'mock', 40, ['length']],
  );
  assert.ok(Number(attributes['gen_ai.response.time_to_first_chunk']) > 0);
  assert.deepEqual(
    generation.events.map((event) => event.name),
    ['first_token', 'last_token'],
  );
  const server = spans.find((span) => span.kind === 'SERVER') as ReceivedSpan;
  assert.deepEqual(
    ['rpc.system.name', 'rpc.method', 'rpc.status_code', 'quern.tenant'].map((name) => server.attributes[name]),
    ['grpc', COMPLETE, 'OK', 'local'],
  );
  assert.equal(server.traceState, 'vendor=1');
  const route = spans.find((span) => span.name === 'gateway.route') as ReceivedSpan;
  assert.equal(route.attributes['quern.route.reason'], 'only_replica');
});

test('success over HTTP: the body is received inside a span', async (t) => {
  const traced = await startTraced(t);
  const trace = startTrace();
  const response = await fetch(`${traced.mesh.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { traceparent: `00-${trace.traceId}-${trace.spanId}-01`, baggage: 'outside=1' },
    body: JSON.stringify({ messages: [{ role: 'user', content: SECRET }], max_tokens: 3, temperature: 0 }),
  });
  await response.text();
  assert.equal(response.headers.get('x-trace-id'), trace.traceId);
  const spans = await traceOf(traced, trace);
  assert.deepEqual(pictureOf(spans), [
    'gateway POST /v1/chat/completions SERVER',
    '  gateway gateway.authorize INTERNAL',
    '  gateway gateway.receive INTERNAL',
    '  gateway gateway.admit INTERNAL',
    '  gateway quern.tokenizer.v1.TokenizerService/RenderChat CLIENT',
    ...REST,
    '  gateway chat mock CLIENT',
  ]);
  const server = spans.find((span) => span.kind === 'SERVER') as ReceivedSpan;
  assert.deepEqual(
    [server.attributes['http.route'], server.attributes['http.response.status_code']],
    ['/v1/chat/completions', 200],
  );
});

test('a caller that cancels: every span ends, none is an error', async (t) => {
  const traced = await startTraced(t, { engine: { stepMs: 20 } });
  const trace = startTrace();
  const gone = new AbortController();
  const answer = drained(complete(traced.mesh, trace, { signal: gone.signal }));
  await eventually(() => traced.mesh.engine.steps > 2, 'tokens are out');
  gone.abort();
  await answer;
  const spans = await traceOf(traced, trace, false);
  assert.deepEqual(pictureOf(spans), [
    `gateway ${COMPLETE} SERVER`,
    ...HEAD,
    ...REST,
    '  gateway text_completion mock CLIENT',
  ]);
  assert.equal(spans.find((span) => span.kind === 'SERVER')?.attributes['rpc.status_code'], 'CANCELLED');
  assert.equal(spans.find((span) => span.name === 'text_completion mock')?.attributes['quern.outcome'], 'cancelled');
});

test('a passed deadline is an error of the call and of the generation', async (t) => {
  const traced = await startTraced(t, { engine: { stepMs: 200 } }); // 40 tokens
  const trace = startTrace();
  await drained(complete(traced.mesh, trace, { timeoutMs: 1_500 }));
  const spans = await traceOf(traced, trace, false);
  assert.deepEqual(pictureOf(spans), [
    `gateway ${COMPLETE} SERVER ERROR DEADLINE_EXCEEDED`,
    ...HEAD,
    ...REST,
    '  gateway text_completion mock CLIENT ERROR DEADLINE_EXCEEDED',
  ]);
});

test('a request that is shed says where and why, and is no error', async (t) => {
  const traced = await startTraced(t, { engine: { stepMs: 20 }, env: { QUERN_GATEWAY_MAX_REQUESTS: '1' } });
  const holding = new AbortController();
  const first = drained(complete(traced.mesh, startTrace(), { signal: holding.signal }));
  await eventually(() => traced.mesh.engine.live === 1, 'the first one runs');
  const trace = startTrace();
  await drained(complete(traced.mesh, trace));
  const spans = await traceOf(traced, trace);
  assert.deepEqual(pictureOf(spans), [
    `gateway ${COMPLETE} SERVER`,
    '  gateway gateway.authorize INTERNAL',
    '  gateway gateway.admit INTERNAL',
  ]);
  const server = spans.find((span) => span.kind === 'SERVER');
  assert.deepEqual(
    [server?.attributes['rpc.status_code'], server?.attributes['quern.reason']],
    ['RESOURCE_EXHAUSTED', 'SHED'],
  );
  const admit = spans.find((span) => span.name === 'gateway.admit');
  assert.equal(admit?.attributes['quern.shed.reason'], 'requests');
  holding.abort();
  await first;
});

test('an engine that breaks: the request is routed again and its one generation says so', async (t) => {
  const traced = await startTraced(t, { engine: { stepMs: 5 } });
  const trace = startTrace();
  const answer = drained(complete(traced.mesh, trace));
  await eventually(() => traced.mesh.engine.steps > 4, 'tokens are out');
  traced.mesh.engine.breakSessions();
  assert.equal(await answer, null);
  const spans = await traceOf(traced, trace);
  assert.deepEqual(pictureOf(spans), [
    `gateway ${COMPLETE} SERVER`,
    ...HEAD,
    ...REST,
    '  gateway text_completion mock CLIENT',
    '  gateway gateway.route INTERNAL',
  ]);
  const generation = spans.find((span) => span.name === 'text_completion mock');
  assert.equal(generation?.attributes['quern.resumes'], 1);
  assert.deepEqual(
    generation?.events.map((event) => event.name),
    ['first_token', 'engine_lost', 'last_token'],
  );
});

test('a stranger’s trace is linked, not continued; a key’s is', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-trace-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const keys = join(folder, 'keys.json');
  const { token } = await createKey(keys, { tenant: 'acme', user: 'ada' });
  const traced = await startTraced(t, { env: { QUERN_KEYS_FILE: keys } });
  const trace = startTrace();
  const call = (authorization: string) =>
    fetch(`${traced.mesh.url}/v1/models`, {
      headers: { traceparent: `00-${trace.traceId}-${trace.spanId}-01`, authorization },
    });
  const refused = await call('Bearer qk_nobody');
  assert.equal(refused.status, 401);
  const own = refused.headers.get('x-trace-id');
  assert.equal((await call(`Bearer ${token}`)).status, 200);
  await traceOf(traced, trace);
  const servers = traced.collector.spans.filter((span) => span.name === 'GET /v1/models');
  const [stranger] = servers.filter((span) => span.traceId !== trace.traceId);
  assert.equal(servers.length, 2);
  assert.deepEqual(stranger?.links, [{ traceId: trace.traceId, spanId: trace.spanId }]);
  assert.equal(stranger?.parentSpanId, '');
  assert.equal(own, stranger?.traceId, 'that of its own trace');
});

test('a collector that is gone or silent costs spans and no request', async (t) => {
  const traced = await startTraced(t);
  traced.collector.mode.silent = true;
  for (let i = 0; i < 5; i += 1) assert.equal(await drained(complete(traced.mesh, startTrace())), null);
  await eventually(() => traced.collector.requests > 0, 'it was asked');
  assert.equal(traced.collector.spans.length, 0);
});
