import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import type { SpanRecord } from '#kit/trace.ts';
import { createSpanWriter } from '../../../services/engine/request-spans.ts';
import type { NativeFinished } from '../../../services/engine/step-decoder.ts';

const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331';

const END = {
  promptTokens: 5,
  completionTokens: 4,
  cachedTokens: 0,
  preemptions: 0,
  prefillChunks: 2,
  decodeSteps: 3,
  receivedUnixNs: 1_000n,
  queueNs: 10n,
  prefillNs: 20n,
  decodeNs: 30n,
} as NativeFinished;

function write(traceparent: string, end: NativeFinished = END, error: QuernError | null = null): SpanRecord[] {
  const spans: SpanRecord[] = [];
  const request = { traceparent, tracestate: '', requestId: 'r' } as GenerationRequest;
  createSpanWriter({ record: (span) => spans.push(span) }, 'm').write(request, end, error);
  return spans;
}

test('queue, prefill and decode tile the request below the submitter’s span', () => {
  const spans = write(`${PARENT}-01`);
  const whole = spans[0] as SpanRecord;
  assert.equal(whole.parentSpanId, 'b7ad6b7169203331');
  assert.deepEqual([whole.startUnixNs, whole.endUnixNs], [1_000n, 1_060n]);
  assert.deepEqual(
    spans
      .slice(1)
      .map(({ name, startUnixNs, endUnixNs, parentSpanId }) => [name, startUnixNs, endUnixNs, parentSpanId]),
    [
      ['engine.queue', 1_000n, 1_010n, whole.context.spanId],
      ['engine.prefill', 1_010n, 1_030n, whole.context.spanId],
      ['engine.decode', 1_030n, 1_060n, whole.context.spanId],
    ],
  );
});

test('no span without a sampled parent; an error is named; a phase without time is left out', () => {
  assert.equal(write(`${PARENT}-00`).length, 0);
  assert.equal(write('').length, 0);
  const spans = write(`${PARENT}-01`, { ...END, decodeNs: 0n }, new QuernError('ABORTED', 'x'));
  assert.equal(spans[0]?.error, 'ABORTED');
  assert.equal(spans.length, 3);
});
