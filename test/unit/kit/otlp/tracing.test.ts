// Export to a collector over a real socket: what arrives, what is dropped and counted, and that a stop is bounded.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { readEnv } from '#kit/env.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { takeTracing, tracingEnv } from '#kit/otlp/settings.ts';
import { startTracing } from '#kit/otlp/tracing.ts';
import { noSpans, nowUnixNs, type SpanRecord, startSpan, startTrace } from '#kit/trace.ts';
import { startCollector } from '../../../support/otlp-collector.ts';

async function start(t: TestContext, url: string | null) {
  const lines: string[] = [];
  const log = createLog({ service: 'x', level: 'warn', destination: { write: (line) => void lines.push(line) } });
  const metrics = createMetrics('x');
  const config = { url, ratio: 1, vllmNames: false };
  const tracing = await startTracing({ service: 'x', config, log, metrics, flushMs: 10 });
  t.after(() => tracing.close());
  const count = async (name: string): Promise<number> => {
    const text = await metrics.render();
    const found = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\d+)`, 'gm'))];
    return found.reduce((sum, [, value]) => sum + Number(value), 0);
  };
  return { tracing, lines, count };
}

test('a span arrives as it was: ids, kind, nanoseconds, attributes, events, links, status', async (t) => {
  const collector = await startCollector(t);
  const { tracing, count } = await start(t, `${collector.url}/v1/traces`);
  const parent = { ...startTrace(), tracestate: 'a=b' };
  const linked = startTrace();
  const startUnixNs = nowUnixNs() - 123_456_789n;
  const span = startSpan(tracing.spans, 'work', parent, { kind: 'client', startUnixNs, links: [linked] });
  span.set({ text: 'é'.repeat(300), whole: 7, part: 0.5, yes: true, list: ['a', 'b'] });
  span.event('seen', { n: 1 });
  span.end({ error: 'INTERNAL', endUnixNs: startUnixNs + 1_000_001n });
  await tracing.close();
  assert.equal(collector.spans.length, 1);
  const [got] = collector.spans;
  assert.deepEqual(
    [got?.traceId, got?.parentSpanId, got?.spanId, got?.traceState, got?.name, got?.kind, got?.service],
    [parent.traceId, parent.spanId, span.context.spanId, 'a=b', 'work', 'CLIENT', 'x'],
  );
  assert.deepEqual([got?.startNs, got?.endNs], [startUnixNs, startUnixNs + 1_000_001n]);
  const { text, ...rest } = got?.attributes ?? {};
  assert.equal(String(text).length, 256, 'no content: long values are cut');
  assert.deepEqual(rest, { whole: 7, part: 0.5, yes: true, list: ['a', 'b'], 'error.type': 'INTERNAL' });
  assert.deepEqual(got?.status, { code: 'ERROR', message: 'INTERNAL' });
  assert.deepEqual(got?.links, [{ traceId: linked.traceId, spanId: linked.spanId }]);
  assert.deepEqual([got?.events[0]?.name, got?.events[0]?.attributes], ['seen', { n: 1 }]);
  assert.equal(await count('quern_trace_spans_sent_total'), 1);
});

test('a collector that refuses: every span is counted, one line is logged, and the stop is bounded', async (t) => {
  const collector = await startCollector(t);
  collector.mode.status = 400; // 5xx would be tried again for a while
  const { tracing, lines, count } = await start(t, `${collector.url}/v1/traces`);
  for (let i = 0; i < 3; i += 1) {
    startSpan(tracing.spans, 'lost', null).end();
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  collector.mode.silent = true;
  startSpan(tracing.spans, 'unanswered', null).end();
  const begun = performance.now();
  await tracing.close();
  assert.ok(performance.now() - begun < 20_000);
  assert.ok((await count('quern_trace_spans_dropped_total')) >= 3);
  assert.equal(lines.filter((line) => line.includes('spans were dropped')).length, 1);
});

test('without an endpoint nothing is exported, and a span keeps its parent', async (t) => {
  const { tracing } = await start(t, null);
  assert.equal(tracing.spans, noSpans);
  const parent = startTrace();
  assert.deepEqual(startSpan(tracing.spans, 'x', parent).context, parent);
});

test('the endpoint is a base address under either name; ours comes first', () => {
  const url = (env: Record<string, string>) => takeTracing(readEnv(env, tracingEnv)).tracing;
  assert.deepEqual(url({}), { url: null, ratio: 1, vllmNames: false });
  assert.equal(url({ QUERN_OTLP_ENDPOINT: '' }).url, null);
  const otel = { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://collector:4318/' };
  assert.equal(url(otel).url, 'https://collector:4318/v1/traces');
  assert.equal(url({ ...otel, QUERN_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }).url, 'http://127.0.0.1:4318/v1/traces');
  assert.equal(url({ QUERN_OTLP_ENDPOINT: 'http://h/v1/traces' }).url, 'http://h/v1/traces');
  assert.equal(url({ QUERN_TRACE_RATIO: '0.05' }).ratio, 0.05);
  for (const bad of ['collector:4318', 'grpc://x', 'http://x?y']) {
    assert.throws(() => url({ QUERN_OTLP_ENDPOINT: bad }), /QUERN_OTLP_ENDPOINT/);
  }
  assert.throws(() => url({ QUERN_TRACE_RATIO: '2' }), /QUERN_TRACE_RATIO/);
});

test('a span that nobody ends is not sent; one that is ended twice is sent once', () => {
  const records: SpanRecord[] = [];
  const span = startSpan({ record: (record) => records.push(record) }, 'x', null);
  startSpan({ record: (record) => records.push(record) }, 'never', null);
  span.end();
  span.end({ error: 'INTERNAL' });
  assert.deepEqual(
    records.map(({ name, error }) => [name, error]),
    [['x', null]],
  );
});
