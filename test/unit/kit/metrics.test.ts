import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createMetrics,
  ITL_BUCKETS_SECONDS,
  LATENCY_BUCKETS_SECONDS,
  RPC_BUCKETS_SECONDS,
  serveMetrics,
  TOKEN_BUCKETS,
  TTFT_BUCKETS_SECONDS,
} from '#kit/metrics.ts';

test('counter, gauge and histogram render with the service label', async () => {
  const metrics = createMetrics('engine');
  metrics.counter({ name: 'quern_requests_total', help: 'h', labels: ['code'] }).inc({ code: 'OK' }, 3);
  metrics.gauge({ name: 'quern_queue_depth', help: 'h' }).set(7);
  metrics.gauge({ name: 'quern_read_late', help: 'h', collect: (set) => set(42) });
  metrics
    .histogram({ name: 'vllm:time_to_first_token_seconds', help: 'h', buckets: TTFT_BUCKETS_SECONDS })
    .observe(0.03);
  const text = await metrics.render();
  assert.match(text, /quern_requests_total\{code="OK",service="engine"\} 3/);
  assert.match(text, /quern_queue_depth\{service="engine"\} 7/);
  assert.match(text, /quern_read_late\{service="engine"\} 42/);
  assert.match(text, /vllm:time_to_first_token_seconds_bucket\{le="0.04",service="engine"\} 1/);
});

test('asking twice for a name gives one series', async () => {
  const metrics = createMetrics('t');
  for (const _ of [1, 2]) metrics.counter({ name: 'quern_x_total', help: 'h' }).inc();
  assert.match(await metrics.render(), /quern_x_total\{service="t"\} 2/);
});

test('names without their unit are refused', () => {
  const metrics = createMetrics('t');
  assert.throws(() => metrics.counter({ name: 'quern_requests', help: 'h' }), /_total/);
  assert.throws(() => metrics.counter({ name: 'requests_total', help: 'h' }), /quern_/);
  assert.throws(() => metrics.histogram({ name: 'quern_latency', help: 'h', buckets: [1] }), /_seconds/);
  assert.throws(() => metrics.gauge({ name: 'quern_depth_total', help: 'h' }), /must not end/);
});

test('bucket lists grow strictly', () => {
  const lists = [
    TTFT_BUCKETS_SECONDS,
    ITL_BUCKETS_SECONDS,
    LATENCY_BUCKETS_SECONDS,
    RPC_BUCKETS_SECONDS,
    TOKEN_BUCKETS,
  ];
  for (const list of lists)
    assert.deepEqual(
      list,
      [...new Set(list)].toSorted((a, b) => a - b),
    );
});

test('whoever asks for OpenMetrics gets it, with the trace of a slow call', async (t) => {
  const metrics = createMetrics('t');
  const listener = await serveMetrics({ port: 0, host: '127.0.0.1', metrics });
  t.after(() => listener.close());
  const histogram = metrics.histogram({ name: 'quern_wait_seconds', help: 'h', buckets: [0.5] });
  histogram.observe(0.25, {}, { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: true });
  const get = async (accept: string) => {
    const response = await fetch(`http://${listener.address}/metrics`, { headers: { accept } });
    return { type: response.headers.get('content-type') ?? '', text: await response.text() };
  };
  const open = await get('application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1');
  assert.match(open.type, /^application\/openmetrics-text; version=1\.0\.0/);
  assert.match(open.text, /le="0\.5",service="t"\} 1 # \{trace_id="a{32}",span_id="b{16}"\} 0\.25 \d+\.\d{3}\n/);
  assert.match(open.text, /\n# EOF\n$/);
  const plain = await get('text/plain');
  assert.match(plain.type, /^text\/plain; version=0\.0\.4/);
  assert.doesNotMatch(plain.text, /trace_id|EOF/);
});

test('a gauge that cannot be read is absent, and one that is gone leaves no value behind', async () => {
  const metrics = createMetrics('t');
  let engines = ['a', 'b'];
  metrics.gauge({
    name: 'quern_engine_depth',
    help: 'h',
    labels: ['engine'],
    collect: (set) => {
      for (const engine of engines) set(1, { engine });
    },
  });
  metrics.gauge({
    name: 'quern_broken',
    help: 'h',
    collect() {
      throw new Error('not connected');
    },
  });
  assert.match(await metrics.render(), /quern_engine_depth\{engine="b"/);
  engines = ['a'];
  const text = await metrics.render();
  assert.match(text, /quern_engine_depth\{engine="a",service="t"\} 1/);
  assert.doesNotMatch(text, /engine="b"|\nquern_broken /);
});

test('the listener answers /metrics, /healthz, /readyz and nothing else', async (t) => {
  const metrics = createMetrics('t');
  let ready = false;
  const listener = await serveMetrics({ port: 0, host: '127.0.0.1', metrics, ready: () => ready });
  t.after(() => listener.close());
  const get = async (path: string) => {
    const response = await fetch(`http://${listener.address}${path}`);
    return { status: response.status, text: await response.text() };
  };
  metrics.gauge({ name: 'quern_depth', help: 'h' }).set(1);
  assert.match((await get('/metrics')).text, /quern_depth/);
  assert.equal((await get('/healthz')).status, 200);
  assert.equal((await get('/readyz')).status, 503);
  ready = true;
  assert.equal((await get('/readyz')).status, 200);
  assert.equal((await get('/other')).status, 404);
  await assert.rejects(serveMetrics({ port: listener.port, host: '127.0.0.1', metrics }), {
    code: 'UNAVAILABLE',
    message: /cannot listen on/,
  });
});
