import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import { noSpans, nowUnixNs, type SpanRecord, startTrace } from '#kit/trace.ts';
import { type RequestTrace, SpanWriter, type SpanWriterOptions } from '../../../services/engine/request-spans.ts';
import type { NativeFinished, NativeRun } from '../../../services/engine/step-decoder.ts';

const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331';
const METHOD = 'quern.engine.v1.EngineService/Generate';

function ended(part: Partial<NativeFinished> = {}): NativeFinished {
  return {
    promptTokens: 5,
    completionTokens: 4,
    cachedTokens: 2,
    preemptions: 0,
    prefillChunks: 2,
    decodeSteps: 3,
    receivedUnixNs: 1_000n,
    queueNs: 10n,
    prefillNs: 20n,
    decodeNs: 30n,
    choices: [{ choice: 0, reason: FinishReason.FINISH_REASON_STOP, stopTokenId: null }],
    preempted: [],
    ...part,
  } as NativeFinished;
}

function requestBelow(traceparent: string): GenerationRequest {
  return { traceparent, tracestate: '', requestId: 'r', priorityClass: 2 } as GenerationRequest;
}

function setUp(options: Partial<SpanWriterOptions> = {}) {
  const spans: SpanRecord[] = [];
  const writer = new SpanWriter({ sink: { record: (span) => spans.push(span) }, model: 'm', ...options });
  return { spans, writer };
}

function write(traceparent: string, end = ended(), error: QuernError | null = null): SpanRecord[] {
  const { spans, writer } = setUp();
  const trace = writer.begin(requestBelow(traceparent), null, 3);
  if (trace) writer.end(trace, end, error);
  return spans;
}

function run(part: Partial<NativeRun> = {}): NativeRun {
  const slices = Uint32Array.of(1, 1, 1);
  return { beginUnixNs: 0n, forwardNs: 5_000_000n, prefillTokens: 0, decodeTokens: 1, heldBlocks: 4, slices, ...part };
}

test('queue, prefill and decode tile the call below the submitter’s span', () => {
  const spans = write(`${PARENT}-01`);
  const call = spans[0] as SpanRecord;
  assert.deepEqual([call.name, call.kind, call.parentSpanId, call.error], [METHOD, 'server', 'b7ad6b7169203331', null]);
  assert.deepEqual([call.startUnixNs, call.endUnixNs], [1_000n, 1_060n]);
  assert.equal(call.attributes['rpc.status_code'], 'OK');
  assert.deepEqual(
    spans
      .slice(1)
      .map(({ name, startUnixNs, endUnixNs, parentSpanId }) => [name, startUnixNs, endUnixNs, parentSpanId]),
    [
      ['engine.queue', 1_000n, 1_010n, call.context.spanId],
      ['engine.prefill', 1_010n, 1_030n, call.context.spanId],
      ['engine.decode', 1_030n, 1_060n, call.context.spanId],
    ],
  );
  assert.equal(spans[1]?.attributes['quern.queue.position'], 3);
  assert.equal(spans[2]?.attributes['quern.computed_tokens'], 3);
});

test('below an RPC of its own a request has phases and no second call', () => {
  const { spans, writer } = setUp();
  const own = startTrace();
  writer.end(writer.begin(requestBelow(''), own, 0) as RequestTrace, ended(), null);
  assert.deepEqual(
    spans.map((span) => [span.name, span.parentSpanId]),
    ['engine.queue', 'engine.prefill', 'engine.decode'].map((name) => [name, own.spanId]),
  );
});

test('no span without a sampled parent or without export; a phase without time is left out', () => {
  assert.equal(write(`${PARENT}-00`).length, 0);
  assert.equal(write('').length, 0);
  assert.equal(new SpanWriter({ sink: noSpans, model: 'm' }).begin(requestBelow(`${PARENT}-01`), null, 0), null);
  assert.equal(write(`${PARENT}-01`, ended({ decodeNs: 0n })).length, 3);
});

test('how it ended: cancelled and refused are no errors, a passed deadline and a fault are', () => {
  const status = (end: NativeFinished, error: QuernError | null = null) => {
    const [call] = write(`${PARENT}-01`, end, error) as [SpanRecord];
    return [call.attributes['rpc.status_code'], call.error, call.endUnixNs > 1_060n];
  };
  const reason = (value: FinishReason) => ended({ choices: [{ choice: 0, reason: value, stopTokenId: null }] });
  assert.deepEqual(status(reason(FinishReason.FINISH_REASON_CANCELLED)), ['CANCELLED', null, true]);
  assert.deepEqual(status(reason(FinishReason.FINISH_REASON_SUPERSEDED)), ['OK', null, false]);
  assert.deepEqual(status(reason(FinishReason.FINISH_REASON_DEADLINE)), [
    'DEADLINE_EXCEEDED',
    'DEADLINE_EXCEEDED',
    true,
  ]);
  assert.deepEqual(status(ended(), new QuernError('RESOURCE_EXHAUSTED', 'x')), ['RESOURCE_EXHAUSTED', null, true]);
  assert.deepEqual(status(ended(), new QuernError('INTERNAL', 'x')), ['INTERNAL', 'INTERNAL', true]);
});

test('a submit that was refused has a call and no phases', () => {
  const { spans, writer } = setUp();
  writer.refused(requestBelow(`${PARENT}-01`), new QuernError('INVALID_ARGUMENT', 'x'));
  writer.refused(undefined, new QuernError('INVALID_ARGUMENT', 'x'));
  assert.deepEqual(
    spans.map((span) => [span.name, span.parentSpanId, span.error, span.attributes['error.type']]),
    [[METHOD, 'b7ad6b7169203331', null, 'INVALID_ARGUMENT']],
  );
});

test('each time that a request had to wait again is a span with its cause', () => {
  const preempted = [
    { afterNs: 32n, ns: 4n, displaced: false },
    { afterNs: 40n, ns: 2n, displaced: true },
  ];
  const spans = write(`${PARENT}-01`, ended({ preemptions: 2, preempted })).slice(4);
  assert.deepEqual(
    spans.map((span) => [span.name, span.startUnixNs, span.endUnixNs, span.attributes['quern.preemption.cause']]),
    [
      ['engine.preempted', 1_032n, 1_036n, 'kv_full'],
      ['engine.preempted', 1_040n, 1_042n, 'displaced'],
    ],
  );
});

test('one step in many is shown, linked both ways with the phases of its batch', () => {
  const { spans, writer } = setUp({ stepEvery: 3 });
  const traces = [1, 2].map(() => writer.begin(requestBelow(`${PARENT}-01`), null, 0) as RequestTrace);
  const traceOf = (id: number) => traces[id - 1];
  const slices = Uint32Array.of(1, 16, 0, 2, 1, 1, 9, 1, 1);
  for (let i = 0; i < 5; i += 1) writer.step(run({ slices, prefillTokens: 16, decodeTokens: 2 }), traceOf);
  assert.equal(spans.length, 1);
  const step = spans[0] as SpanRecord;
  const [prefilling, decoding] = traces as [RequestTrace, RequestTrace];
  assert.deepEqual(
    [step.name, step.parentSpanId, step.attributes['quern.step.shown']],
    ['engine.step', null, 'sample'],
  );
  assert.deepEqual(step.links, [prefilling.prefill, decoding.decode]);
  assert.deepEqual([step.attributes['quern.step.batch_size'], step.attributes['quern.step.kv_blocks']], [3, 4]);
  writer.end(prefilling, ended(), null);
  writer.end(decoding, ended(), null);
  const linked = spans.filter((span) => span !== step && span.links.length > 0);
  assert.deepEqual(
    linked.map((span) => [span.name, span.context.spanId, span.links]),
    [
      ['engine.prefill', prefilling.prefill.spanId, [step.context]],
      ['engine.decode', decoding.decode.spanId, [step.context]],
    ],
  );
});

test('a step that takes far longer than its kind is shown as slow, and the links of both sides are bounded', () => {
  const { spans, writer } = setUp({ stepEvery: 0 });
  const traces = Array.from({ length: 40 }, () => writer.begin(requestBelow(`${PARENT}-01`), null, 0) as RequestTrace);
  const slices = Uint32Array.from(traces.flatMap((_, i) => [i + 1, 1, 1]));
  const traceOf = (id: number) => traces[id - 1];
  for (let i = 0; i < 60; i += 1) writer.step(run({ slices }), traceOf);
  assert.equal(spans.length, 0);
  writer.step(run({ slices, forwardNs: 90_000_000n }), traceOf);
  writer.step(run({ slices, forwardNs: 90_000_000n }), traceOf); // at once after it: only the first is shown
  assert.deepEqual(
    spans.map((span) => [span.attributes['quern.step.shown'], span.links.length]),
    [['slow', 32]],
  );
  const many = setUp({ stepEvery: 1 });
  const trace = many.writer.begin(requestBelow(`${PARENT}-01`), null, 0) as RequestTrace;
  for (let i = 1; i <= 20; i += 1) many.writer.step(run({ forwardNs: BigInt(i) }), () => trace);
  assert.deepEqual(
    trace.decodeSteps.map(({ ns }) => Number(ns)).sort((a, b) => b - a),
    [20, 19, 18, 17, 16, 15, 14, 13],
  );
});

test('the decode says how evenly its tokens came', () => {
  const { spans, writer } = setUp();
  const trace = writer.begin(requestBelow(`${PARENT}-01`), null, 0) as RequestTrace;
  let at = nowUnixNs();
  for (const gapMs of [0, ...Array(18).fill(10), 50, 200]) {
    at += BigInt(gapMs) * 1_000_000n;
    writer.step(run({ beginUnixNs: at }), () => trace);
  }
  writer.end(trace, ended(), null);
  const { attributes } = spans.find((span) => span.name === 'engine.decode') as SpanRecord;
  const number = (name: string): number => Number(attributes[`quern.${name}`]);
  assert.ok(number('tpot.p50_ms') >= 10 && number('tpot.p50_ms') < 12.5, `${number('tpot.p50_ms')}`);
  assert.ok(number('tpot.p95_ms') >= 50 && number('tpot.p95_ms') < 60, `${number('tpot.p95_ms')}`);
  assert.ok(Math.abs(number('tpot.max_ms') - 200) < 0.01);
  assert.deepEqual([number('batch.avg'), number('batch.max')], [1, 1]);
});

test('vLLM’s names stand beside ours only when asked for', () => {
  const { spans, writer } = setUp({ vllmNames: true });
  writer.end(writer.begin(requestBelow(`${PARENT}-01`), null, 0) as RequestTrace, ended(), null);
  assert.equal(spans[0]?.attributes['gen_ai.usage.prompt_tokens'], 5);
  assert.equal(spans[0]?.attributes['gen_ai.latency.e2e'], 60e-9);
  assert.equal(write(`${PARENT}-01`)[0]?.attributes['gen_ai.usage.prompt_tokens'], undefined);
});
