// The span queue never waits, never grows past its bound, and counts whatever it loses.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TRACE_ENCODE_SPANS } from '#kit/otlp/limits.ts';
import { SpanQueue, type SpanQueueOptions } from '#kit/otlp/span-queue.ts';
import { type SpanRecord, startSpan } from '#kit/trace.ts';

function startQueue(options: Partial<SpanQueueOptions<SpanRecord>> & Pick<SpanQueueOptions<SpanRecord>, 'send'>) {
  const dropped: [number, string][] = [];
  const queue = new SpanQueue<SpanRecord>({
    encode: (span) => span,
    spansMax: 4,
    batchSpans: 2,
    flushMs: 5,
    closeMs: 50,
    onDropped: (count, reason) => dropped.push([count, reason]),
    ...options,
  });
  const add = (name: string): void => startSpan(queue, name, null).end();
  return { queue, dropped, add };
}

const names = (spans: readonly SpanRecord[]): string[] => spans.map((span) => span.name);

test('spans go out in order: a full batch at once, fewer after a moment, the rest at the close', async () => {
  const sent: string[][] = [];
  const { queue, dropped, add } = startQueue({ send: async (spans) => void sent.push(names(spans)) });
  for (const name of ['a', 'b', 'c']) add(name);
  assert.deepEqual(sent, [['a', 'b']]);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.deepEqual(sent, [['a', 'b'], ['c']]);
  add('d');
  await queue.close();
  assert.deepEqual(sent.at(-1), ['d']);
  add('late');
  assert.deepEqual(dropped, [[1, 'closed']]);
});

test('spans are encoded some at a time, and a collector that hangs holds none of that up', async () => {
  const encoded: string[] = [];
  const { queue, dropped, add } = startQueue({
    spansMax: 3 * TRACE_ENCODE_SPANS,
    batchSpans: 3 * TRACE_ENCODE_SPANS,
    flushMs: 60_000,
    encode(span) {
      encoded.push(span.name);
      return span;
    },
    send: () => new Promise<void>(() => {}),
  });
  const wanted = Array.from({ length: 2 * TRACE_ENCODE_SPANS }, (_, i) => `span ${i}`);
  for (const [i, name] of wanted.entries()) {
    assert.equal(encoded.length, i < TRACE_ENCODE_SPANS ? 0 : TRACE_ENCODE_SPANS);
    add(name);
  }
  assert.deepEqual(encoded, wanted);
  add('waits');
  assert.deepEqual([queue.waitingCount, encoded.length], [2 * TRACE_ENCODE_SPANS + 1, wanted.length]);
  await queue.close();
  assert.equal(encoded.at(-1), 'waits', 'what goes out is encoded');
  assert.deepEqual(dropped, [], 'it is on its way');
});

test('a collector that hangs costs the spans past the bound, and the close waits for it only so long', async () => {
  const never = new Promise<void>(() => {});
  const { queue, dropped, add } = startQueue({ send: () => never });
  for (let i = 0; i < 9; i += 1) add(`span ${i}`);
  assert.equal(queue.waitingCount, 4, 'two are on their way, four wait');
  assert.deepEqual(dropped, Array(3).fill([1, 'queue_full']));
  const begun = performance.now();
  await queue.close();
  assert.ok(performance.now() - begun < 20_000);
  assert.deepEqual(dropped.at(-1), [4, 'closed']);
  await queue.close();
  assert.equal(dropped.length, 4, 'closing twice drops nothing twice');
});

test('a batch that was refused is counted, and the next one is tried', async () => {
  let calls = 0;
  const { queue, dropped, add } = startQueue({
    async send() {
      calls += 1;
      if (calls === 1) throw new Error('ECONNREFUSED');
    },
  });
  for (const name of ['a', 'b', 'c', 'd']) add(name);
  await queue.close();
  assert.deepEqual([calls, dropped], [2, [[2, 'refused']]]);
});

test('the share of new traces that are recorded is the ratio; a caller that began one decides itself', async () => {
  const sent: string[] = [];
  const { queue } = startQueue({
    rootRatio: 0.25,
    spansMax: 10_000,
    batchSpans: 10_000,
    send: async (spans) => void sent.push(...names(spans)),
  });
  for (let i = 0; i < 2_000; i += 1) startSpan(queue, 'root', null).end();
  const parent = { traceId: 'f'.repeat(32), spanId: 'f'.repeat(16), sampled: true };
  startSpan(queue, 'child', parent).end();
  startSpan(queue, 'not wanted', { ...parent, sampled: false }).end();
  await queue.close();
  const roots = sent.filter((name) => name === 'root').length;
  assert.ok(roots > 350 && roots < 650, `${roots} of 2000`);
  assert.deepEqual(
    sent.filter((name) => name !== 'root'),
    ['child'],
  );
});
