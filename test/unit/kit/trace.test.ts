import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  child,
  extract,
  inject,
  noSpans,
  nowUnixNs,
  type SpanRecord,
  startRemoteSpan,
  startSpan,
  startTrace,
} from '#kit/trace.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

test('a valid traceparent is read and written back', () => {
  const context = extract(`00-${TRACE}-${SPAN}-01`, 'vendor=1');
  assert.deepEqual(context, { traceId: TRACE, spanId: SPAN, sampled: true, tracestate: 'vendor=1' });
  assert.deepEqual(inject(context!), { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'vendor=1' });
  assert.equal(extract(`00-${TRACE}-${SPAN}-00`)?.sampled, false);
});

test('what the specification calls invalid starts anew', () => {
  const invalid = [
    undefined,
    '',
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01-extra`,
    `00-${TRACE}-${SPAN}`,
  ];
  for (const text of invalid) assert.equal(extract(text), null, String(text));
  assert.equal(extract(`01-${TRACE}-${SPAN}-01-extra`)?.traceId, TRACE, 'a later version may carry more');
});

test('a tracestate that is too long or not printable is dropped, the trace goes on', () => {
  for (const state of ['x'.repeat(513), 'a=\n']) {
    assert.deepEqual(extract(`00-${TRACE}-${SPAN}-01`, state), { traceId: TRACE, spanId: SPAN, sampled: true });
  }
});

test('a child keeps the trace and has an own span id', () => {
  const root = startTrace();
  const below = child(root);
  assert.equal(below.traceId, root.traceId);
  assert.notEqual(below.spanId, root.spanId);
  assert.match(root.traceId, /^[0-9a-f]{32}$/);
});

test('a span is recorded once, with its parent and times in order; an unsampled one is not', () => {
  const records: SpanRecord[] = [];
  const sink = { record: (span: SpanRecord) => void records.push(span) };
  const root = startTrace();
  const span = startSpan(sink, 'step', root, { kind: 'internal', attributes: { n: 1 } });
  span.event('first_token');
  span.set({ m: true });
  span.end({ error: 'UNAVAILABLE' });
  span.end();
  startSpan(sink, 'unsampled', { ...root, sampled: false }).end();
  startSpan(noSpans, 'nowhere', null).end();
  assert.equal(records.length, 1);
  const [record] = records as [SpanRecord];
  assert.equal(record.parentSpanId, root.spanId);
  assert.equal(record.context.traceId, root.traceId);
  assert.deepEqual(record.attributes, { n: 1, m: true });
  assert.equal(record.error, 'UNAVAILABLE');
  assert.ok(record.startUnixNs <= record.events[0]!.unixNs && record.events[0]!.unixNs <= record.endUnixNs);
  const beforeMs = Date.now();
  const nowMs = Number(nowUnixNs() / 1_000_000n);
  assert.ok(nowMs >= beforeMs - 50 && nowMs <= Date.now() + 50, `${nowMs} at ${beforeMs}`); // clocks, not how long it took
});

test('what comes behind the end of a span is not in its record', () => {
  const records: SpanRecord[] = [];
  const span = startSpan({ record: (record) => records.push(record) }, 'x', startTrace());
  span.end();
  span.set({ late: true });
  span.event('late');
  span.link(startTrace());
  assert.deepEqual([records[0]?.attributes, records[0]?.events, records[0]?.links], [{}, [], []]);
});

test('what is not recorded goes on under the context of whoever said so; an own trace that is not has one of its own', () => {
  const sink = { record: () => assert.fail('nothing is recorded'), rootRatio: 0 };
  const caller = extract(`00-${TRACE}-${SPAN}-00`, 'vendor=1')!;
  const span = startRemoteSpan(sink, 'call', { context: caller, trusted: true }, { attributes: { a: 1 } });
  assert.deepEqual(inject(span.context), { traceparent: `00-${TRACE}-${SPAN}-00`, tracestate: 'vendor=1' });
  assert.deepEqual(startSpan(sink, 'below', span.context).context, caller);
  const recorded = { ...caller, sampled: true };
  for (const context of [recorded, null]) {
    const own = startRemoteSpan(sink, 'call of a stranger', { context, trusted: false }).context;
    assert.deepEqual([own.sampled, own.traceId === TRACE], [false, false]);
    assert.match(own.traceId, /^[0-9a-f]{32}$/);
  }
  for (const one of [span, startSpan(sink, 'root', null)]) {
    one.set({ a: 1 });
    one.event('e');
    one.link(recorded);
    one.end({ error: 'INTERNAL' });
  }
});

test('a child of a recorded span is one of its trace, with its tracestate', () => {
  const records: SpanRecord[] = [];
  const parent = extract(`00-${TRACE}-${SPAN}-01`, 'vendor=1')!;
  const span = startSpan({ record: (record) => records.push(record) }, 'x', parent);
  span.end();
  const { spanId, ...rest } = span.context;
  assert.deepEqual(rest, { traceId: TRACE, sampled: true, tracestate: 'vendor=1' });
  assert.notEqual(spanId, SPAN);
  assert.equal(records[0]?.context, span.context);
});
