import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GenerationRequest, StepBatch } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import { createMetrics } from '#kit/metrics.ts';
import { fromStatusProto } from '#kit/rpc/status.ts';
import { noSpans } from '#kit/trace.ts';
import { createEngineMetrics } from '../../../services/engine/engine-metrics.ts';
import type { NativeEngine, NativeLoad, NativeModel, NativeRequest } from '../../../services/engine/native.ts';
import { nativeError } from '../../../services/engine/native.ts';
import { SpanWriter } from '../../../services/engine/request-spans.ts';
import type { NativeFinished, NativeStep } from '../../../services/engine/step-decoder.ts';
import { StepSender } from '../../../services/engine/step-sender.ts';
import { TokenStreams } from '../../../services/engine/token-streams.ts';

const LOAD: NativeLoad = {
  running: 0,
  waiting: 0,
  waitingPromptTokens: 0,
  freeBlocks: 1,
  cachedBlocks: 0,
  numBlocks: 1,
  generationTokensPerS: 0,
  promptTokensPerS: 0,
  steps: 0,
  lastStepUnixNs: 0n,
  preemptions: 0,
  prefixQueryTokens: 0,
  prefixHitTokens: 0,
  draining: false,
};

function setUp() {
  let listener: (step: NativeStep) => void = () => {};
  const submitted: NativeRequest[] = [];
  const cancelled: number[] = [];
  const control = { refusal: null as QuernError | null, ms: 0 };
  const native: NativeEngine = {
    model: { contextLength: 100 } as NativeModel,
    listen: (onStep) => {
      listener = onStep;
    },
    submit(request) {
      if (control.refusal) return control.refusal;
      submitted.push(request);
      return null;
    },
    cancel: (id) => cancelled.push(id),
    load: () => LOAD,
    drain: () => {},
    close: async () => {},
  };
  const metrics = createMetrics('test');
  const streams: TokenStreams = new TokenStreams({
    native,
    metrics: createEngineMetrics({
      metrics,
      model: 'm',
      blockSize: 16,
      load: () => LOAD,
      orphans: () => streams.orphanCount,
      emptySlots: () => streams.emptySlots(16),
    }),
    spans: new SpanWriter({ sink: noSpans, model: 'm' }),
    now_ms: () => control.ms,
  });
  const batches: StepBatch[] = [];
  const sender = new StepSender({
    sink: {
      writable: true,
      write: (batch) => batches.push(structuredClone(batch)) > 0,
      drained: async () => {},
    },
    now_ms: () => control.ms,
    onUnread: () => {},
  });
  const step = (part: Partial<NativeStep>) =>
    listener({ running: 1, waiting: 0, tokens: [], prompts: [], finished: [], run: null, ...part });
  return { streams, sender, batches, submitted, cancelled, control, step, metrics };
}

function request(overrides: Partial<GenerationRequest> = {}): GenerationRequest {
  return {
    requestId: 'r1',
    tokenIds: [1, 2, 3],
    sampling: undefined,
    tenant: 't',
    cacheSalt: '',
    publicPrefixTokens: 0,
    priorityClass: 0,
    priority: 0,
    supersedeKey: '',
    principal: '',
    resumeTokenIds: [],
    traceparent: '',
    tracestate: '',
    ...overrides,
  };
}

function finished(id: number, part: Partial<NativeFinished> = {}): NativeFinished {
  return {
    id,
    statusCode: 0,
    message: '',
    seed: 1n,
    promptTokens: 3,
    cachedTokens: 0,
    completionTokens: 1,
    prefillChunks: 1,
    decodeSteps: 0,
    preemptions: 0,
    receivedUnixNs: 0n,
    queueNs: 1n,
    prefillNs: 1n,
    decodeNs: 1n,
    choices: [{ choice: 0, reason: 2, stopTokenId: null }],
    preempted: [],
    ...part,
  };
}

const ignore = { timeoutMs: null, onEnd: () => {} };

test('absent settings become the defaults of the proto', () => {
  const { streams, sender, submitted } = setUp();
  streams.submit(request({ timeoutMs: 500 }), { ...ignore, handle: 1, sender, timeoutMs: 300 });
  assert.equal(submitted[0]?.maxTokens, 97); // what fits into the context
  assert.equal(submitted[0]?.priorityClass, 3);
  assert.equal(submitted[0]?.temperature, null);
  assert.equal(submitted[0]?.timeoutMs, 300);
  const sampling = { maxTokens: 0, logitBias: new Map([[5, -1.5]]), stopTokenIds: [9] };
  streams.submit(request({ sampling, priorityClass: 1 }), { ...ignore, handle: 2, sender });
  assert.equal(submitted[1]?.priorityClass, 6); // prefill only is WARM
  assert.deepEqual(submitted[1]?.logitBiasIds, Uint32Array.of(5));
  assert.deepEqual(submitted[1]?.logitBiasValues, Float32Array.of(-1.5));
  assert.equal(submitted[1]?.timeoutMs, null);
});

test('one batch per step, with every handle of the call', () => {
  const { streams, sender, batches, step } = setUp();
  const a = streams.submit(request(), { ...ignore, handle: 11, sender });
  const b = streams.submit(request({ requestId: 'r2' }), { ...ignore, handle: 12, sender });
  const entries = [
    { tokenId: 5, logprob: -1, rank: 1 },
    { tokenId: 6, logprob: -2, rank: 2 },
  ];
  step({
    tokens: [
      { id: a.id, choice: 0, tokenId: 5, logprobs: entries },
      { id: b.id, choice: 0, tokenId: 7, logprobs: null },
    ],
    prompts: [{ id: a.id, positions: [[{ tokenId: 2, logprob: -3, rank: 9 }]] }],
    finished: [finished(b.id)],
  });
  assert.equal(batches.length, 1);
  const [first, second] = batches[0]?.tokens ?? [];
  assert.equal(first?.handle, 11);
  assert.deepEqual(first?.logprobs, [{ chosen: entries[0], top: [entries[1]] }]);
  assert.deepEqual(first?.promptLogprobs, [{ chosen: { tokenId: 2, logprob: -3, rank: 9 }, top: [] }]);
  assert.deepEqual(second?.tokenIds, [7]);
  assert.deepEqual(
    batches[0]?.finished.map(({ handle }) => handle),
    [12],
  );
  assert.equal(streams.liveCount, 1);
});

test('slots that hold no token: the open end of the last block of each sequence that has begun', async () => {
  const { streams, sender, step, metrics } = setUp();
  const sampling = { n: 2, maxTokens: 20, logitBias: new Map(), stopTokenIds: [] };
  const a = streams.submit(request({ tokenIds: Array(14).fill(1), sampling }), { ...ignore, handle: 1, sender });
  streams.submit(request({ requestId: 'waits' }), { ...ignore, handle: 2, sender });
  assert.equal(streams.emptySlots(16), 0);
  const token = (choice: number) => ({ id: a.id, choice, tokenId: 5, logprobs: null });
  step({ tokens: [token(0), token(1)] }); // 15 tokens each
  assert.equal(streams.emptySlots(16), 2);
  step({ tokens: [token(0)] }); // 16 and 15
  assert.equal(streams.emptySlots(16), 1);
  step({ tokens: [token(0)] }); // 17 and 15
  assert.equal(streams.emptySlots(16), 16);
  streams.cancel(a);
  assert.match(await metrics.render(), /quern_engine_slots_cancelled_total\{[^}]*\} 1\n/);
  step({ finished: [finished(a.id)] });
  assert.equal(streams.emptySlots(16), 0);
  assert.match(await metrics.render(), /quern_engine_slots_released_total\{[^}]*\} 1\n/);
});

test('a refusal is thrown with its field and leaves nothing behind', async () => {
  const { streams, sender, control, metrics } = setUp();
  control.refusal = nativeError(3, 'request.sampling.top_p: expected (0, 1], got 1.5');
  assert.throws(() => streams.submit(request(), { ...ignore, handle: 1, sender }), {
    code: 'INVALID_ARGUMENT',
    details: {
      reason: 'INVALID_ARGUMENT',
      fields: [{ field: 'request.sampling.top_p', description: 'expected (0, 1], got 1.5' }],
    },
  });
  assert.equal(streams.liveCount, 0);
  assert.match(await metrics.render(), /vllm:admission_rejections_total\{[^}]*reason="invalid_argument"[^}]*\} 1/);
  const full = nativeError(8, 'the inbox is full');
  assert.ok((full.details.retryAfterMs ?? 0) > 0);
  assert.equal(full.details.reason, 'ENGINE_BUSY');
});

test('cancel asks the engine once; the end that follows carries the reason given here', () => {
  const { streams, sender, batches, cancelled, step } = setUp();
  const ends: (QuernError | null)[] = [];
  const stream = streams.submit(request(), { handle: 1, sender, timeoutMs: null, onEnd: (error) => ends.push(error) });
  streams.cancel(stream, new QuernError('RESOURCE_EXHAUSTED', 'not read'));
  streams.cancel(stream);
  assert.deepEqual(cancelled, [stream.id]);
  step({ finished: [finished(stream.id, { choices: [{ choice: 0, reason: 3, stopTokenId: null }] })] });
  const end = batches[0]?.finished[0];
  assert.equal(end?.choices[0]?.reason, 6);
  assert.equal(fromStatusProto(end!.status!).code, 'RESOURCE_EXHAUSTED');
  assert.equal(ends.length, 1);
  assert.equal(ends[0]?.code, 'RESOURCE_EXHAUSTED');
  streams.cancel(stream);
  assert.deepEqual(cancelled, [stream.id]);
});

test('an abandoned request is cancelled, counted, and heard of no more', () => {
  const { streams, sender, batches, cancelled, step } = setUp();
  const stream = streams.submit(request(), { ...ignore, handle: 1, sender });
  streams.abandon(stream);
  assert.deepEqual(cancelled, [stream.id]);
  assert.equal(streams.orphanCount, 1);
  step({ tokens: [{ id: stream.id, choice: 0, tokenId: 5, logprobs: null }] });
  step({ finished: [finished(stream.id)] });
  assert.equal(batches.length, 0);
  assert.equal(streams.orphanCount, 0);
});

test('abort ends all requests of an id', () => {
  const { streams, sender, cancelled, step } = setUp();
  const a = streams.submit(request(), { ...ignore, handle: 1, sender });
  const b = streams.submit(request(), { ...ignore, handle: 2, sender });
  assert.equal(streams.abort('nobody'), false);
  assert.equal(streams.abort('r1'), true);
  assert.deepEqual(cancelled, [a.id, b.id]);
  step({ finished: [finished(a.id), finished(b.id)] });
  assert.equal(streams.abort('r1'), false);
});
