// The public gRPC API between fakes: event order, defaults, identity, cancel, deadlines, refusals.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FinishReason, PriorityClass } from '#gen/quern/common/v1/common.ts';
import { type CompleteRequest, InfillMode, InfillRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import { chatRequest, completeRequest, EMPTY, options, refusal, stream, textOf } from './fakes/grpc-calls.ts';
import { eventually, startMesh } from './fakes/mesh.ts';
import { bytesOf, EOS, IM_END } from './fakes/mock-tokenizer.ts';

test('a stream is accepted, deltas, one finish per choice, one end; and equals the unary answer', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => [...bytesOf('1 + 2'), EOS];
  const sampling = { ...emptySampling(), n: 2, seed: 7n };
  const events = await stream(mesh, completeRequest({ sampling, options: options({ requestId: 'r-1' }) }));
  assert.deepEqual([...new Set(events.map((e) => e.$case))], ['accepted', 'delta', 'choiceFinished', 'end']);
  const accepted = events[0]?.$case === 'accepted' ? events[0].value : null;
  assert.equal(accepted?.requestId, 'r-1');
  assert.match(accepted?.traceId ?? '', /^[0-9a-f]{32}$/);
  const end = events.at(-1)?.$case === 'end' ? (events.at(-1)?.value as { usage?: object; seed: bigint }) : null;
  assert.deepEqual(end?.usage, { promptTokens: 4, cachedTokens: 4, completionTokens: 12 });
  assert.equal(end?.seed, 7n);
  const whole = await unary(mesh.completion, 'complete', completeRequest({ sampling }), {});
  assert.deepEqual(
    whole.choices.map((c) => [c.index, c.text, c.finishReason]),
    [
      [0, textOf(events, 0), FinishReason.FINISH_REASON_STOP],
      [1, textOf(events, 1), FinishReason.FINISH_REASON_STOP],
    ],
  );
  assert.equal(textOf(events), '1 + 2');
  assert.deepEqual(whole.end?.usage, end?.usage);
});

test('every step of the engine is one delta, the first token at once', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  const sampling = { ...emptySampling(), maxTokens: 12 };
  const events = await stream(mesh, completeRequest({ sampling }));
  assert.equal(events.filter((e) => e.$case === 'delta').length, 12);
  const merged = await stream(
    mesh,
    completeRequest({ sampling: { ...sampling, maxTokens: 40 }, options: options({ coalesceMs: 50 }) }),
  );
  const deltas = merged.filter((e) => e.$case === 'delta');
  assert.ok(deltas.length >= 2 && deltas.length < 15, `${deltas.length} deltas`);
  assert.equal((deltas[0]!.value as { text: string }).text.length, 1);
});

test('stop strings end a request at once, are named, and cancel the engine', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 2 } });
  mesh.engine.settings.script = () => bytesOf(`one\n\ntwo${'.'.repeat(500)}`);
  const sampling = { ...emptySampling(), maxTokens: 400 };
  const events = await stream(mesh, completeRequest({ sampling, stop: ['\n\ntwo', 'zzz'] }));
  assert.equal(textOf(events), 'one');
  const finished = events.find((e) => e.$case === 'choiceFinished')?.value;
  assert.deepEqual(finished, {
    index: 0,
    finishReason: FinishReason.FINISH_REASON_STOP,
    stopString: '\n\ntwo',
    stopTokenId: undefined,
    scopeEnded: undefined,
  });
  const end = events.at(-1)?.value as { usage: { completionTokens: number }; timings?: object };
  assert.equal(end.usage.completionTokens, 8);
  assert.ok(end.timings);
  assert.equal(mesh.engine.cancels, 1);
});

test('infill: family, dropped tokens, single line, soft deadline', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 2, contextLength: 64 } });
  mesh.engine.settings.script = () => bytesOf(`first line\nsecond${' more'.repeat(20)}`);
  const base = InfillRequest.decode(EMPTY);
  const infill = async (over: Partial<InfillRequest>) => {
    const events = [];
    for await (const { event } of serverStream(mesh.completion, 'infill', { ...base, ...over }, {}))
      if (event) events.push(event);
    const text = events.map((e) => (e.$case === 'delta' ? e.value.text : '')).join('');
    const end = events.at(-1);
    return { text, end: end?.$case === 'end' ? end.value : null, events };
  };
  const sampling = { ...emptySampling(), maxTokens: 32 };
  const single = await infill({
    prefix: 'p'.repeat(50),
    suffix: 's',
    sampling,
    mode: InfillMode.INFILL_MODE_SINGLE_LINE,
  });
  assert.equal(single.text, 'first line');
  assert.equal(single.end?.family, 'mock-fim');
  assert.equal(single.end?.droppedPrefixTokens, 50 + 1 + 3 - 32);
  assert.equal(mesh.engine.requests[0]?.tokenIds.length, 32);
  mesh.engine.settings.stepMs = 250; // eight seconds in all; the first token may be late on a busy machine
  const soft = await infill({ prefix: 'p', suffix: 's', sampling, softDeadlineMs: 2_500 });
  assert.ok(soft.text.length >= 1 && soft.text.length < 20, soft.text);
  const finished = soft.events.find((e) => e.$case === 'choiceFinished')?.value as { finishReason: number };
  assert.equal(finished.finishReason, FinishReason.FINISH_REASON_LENGTH);
});

test('chat over gRPC, whole and streamed', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => [...bytesOf('hi'), IM_END];
  const request = chatRequest();
  const whole = await unary(mesh.chat, 'chat', request, {});
  assert.equal(whole.choices[0]?.content, 'hi');
  let text = '';
  for await (const { event } of serverStream(mesh.chat, 'streamChat', { request }, {}))
    if (event?.$case === 'delta') text += event.value.text;
  assert.equal(text, 'hi');
  assert.equal(mesh.engine.requests[0]?.priorityClass, PriorityClass.PRIORITY_CLASS_CHAT);
  assert.equal(mesh.engine.requests[0]?.sampling?.maxTokens, 4096 - mesh.engine.requests[0]!.tokenIds.length);
});

test('models: what is served, and whether it is ready', async (t) => {
  const mesh = await startMesh(t);
  const { models } = await unary(mesh.model, 'listModels', {}, {});
  assert.deepEqual(
    models.map((m) => [m.name, m.ready, m.chat, m.fimFamily, m.contextLength, m.replicas]),
    [['mock', true, true, 'mock-fim', 4096, 1]],
  );
  assert.equal((await unary(mesh.model, 'getModel', { model: '' }, {})).model?.name, 'mock');
  assert.equal((await refusal(unary(mesh.model, 'getModel', { model: 'nope' }, {}))).details.reason, 'MODEL_NOT_FOUND');
});

test('refusals name the field and what was expected', async (t) => {
  const mesh = await startMesh(t);
  const bad: [Partial<CompleteRequest>, string][] = [
    [{ sampling: { ...emptySampling(), topP: 0 } }, 'sampling.top_p'],
    [{ sampling: { ...emptySampling(), n: 17 } }, 'sampling.n'],
    [{ sampling: { ...emptySampling(), temperature: Number.NaN } }, 'sampling.temperature'],
    [{ sampling: { ...emptySampling(), minTokens: 20 } }, 'sampling.min_tokens'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    [{ stop: ['a', ''] }, 'stop[1]'],
    [{ prompt: undefined }, 'prompt'],
    [{ prompt: { $case: 'tokenIds', value: { ids: [1, 5000] } } }, 'prompt[1]'],
    [{ prompt: { $case: 'text', value: '' } }, 'prompt'],
    [{ options: options({ requestId: 'a b' }) }, 'request_id'],
    [{ options: options({ coalesceMs: 2000 }) }, 'coalesce_ms'],
  ];
  for (const [over, field] of bad) {
    const error = await refusal(unary(mesh.completion, 'complete', completeRequest(over), {}));
    assert.deepEqual([error.code, error.details.fields?.[0]?.field], ['INVALID_ARGUMENT', field], error.message);
  }
  const long = await refusal(
    unary(mesh.completion, 'complete', completeRequest({ prompt: { $case: 'text', value: 'x'.repeat(4090) } }), {}),
  );
  assert.deepEqual([long.code, long.details.reason], ['INVALID_ARGUMENT', 'CONTEXT_LENGTH_EXCEEDED']);
  mesh.engine.settings.refuse = new QuernError('RESOURCE_EXHAUSTED', 'the queue is full', {
    reason: 'QUEUE_FULL',
    retryAfterMs: 250,
  });
  const shed = await refusal(unary(mesh.completion, 'complete', completeRequest(), {}));
  assert.deepEqual(
    [shed.code, shed.details.reason, shed.details.retryAfterMs],
    ['RESOURCE_EXHAUSTED', 'QUEUE_FULL', 250],
  );
  const counted = async (): Promise<string[]> =>
    (await mesh.gateway.context.metrics.render())
      .split('\n')
      .filter((line) => line.startsWith('quern_gateway_shed_total{'));
  const once = ['quern_gateway_shed_total{reason="engine_busy",service="gateway"} 1'];
  assert.deepEqual(await counted(), once, 'an engine that refuses for load sheds too');
  mesh.engine.settings.refuse = new QuernError('INVALID_ARGUMENT', 'no');
  await refusal(unary(mesh.completion, 'complete', completeRequest(), {}));
  mesh.engine.settings.refuse = new QuernError('RESOURCE_EXHAUSTED', 'unread', { reason: 'SLOW_READER' });
  await refusal(unary(mesh.completion, 'complete', completeRequest(), {}));
  assert.deepEqual(await counted(), once, 'nothing else does');
  assert.equal(mesh.gateway.context.admission.requests, 0);
});

async function drain(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events);
}

test('prompt logprobs are refused where the answer has no place for them', async (t) => {
  const mesh = await startMesh(t);
  const sampling = { ...emptySampling(), maxTokens: 2, promptLogprobs: 0 };
  const chat = { ...chatRequest(), sampling };
  const infill = { ...InfillRequest.decode(EMPTY), prefix: 'p', suffix: 's', sampling };
  for (const work of [
    unary(mesh.chat, 'chat', chat, {}),
    drain(serverStream(mesh.chat, 'streamChat', { request: chat }, {})),
    drain(serverStream(mesh.completion, 'infill', infill, {})),
  ]) {
    const error = await refusal(work);
    assert.equal(error.code, 'INVALID_ARGUMENT');
    assert.deepEqual(
      error.details.fields?.map((f) => f.field),
      ['sampling.prompt_logprobs'],
    );
  }
  assert.equal(mesh.engine.requests.length, 0);
});

test('echo, prompt logprobs and token ids', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => [...bytesOf('yz'), EOS];
  const sampling = { ...emptySampling(), logprobs: 1, promptLogprobs: 2 };
  const request = completeRequest({
    prompt: { $case: 'tokenIds', value: { ids: [0x77, IM_END] } },
    echo: true,
    sampling,
    options: options({ returnTokenIds: true }),
  });
  const whole = await unary(mesh.completion, 'complete', request, {});
  const [choice] = whole.choices;
  assert.equal(choice?.text, 'w<|im_end|>yz');
  assert.deepEqual(
    choice?.logprobs.map((l) => [l.token, l.textOffset]),
    [
      ['w', 0],
      ['<|im_end|>', 1],
      ['y', 11],
      ['z', 12],
    ],
  );
  assert.deepEqual(choice?.tokenIds, [...bytesOf('yz'), EOS], 'the id that ended it is one of its tokens');
  assert.deepEqual(whole.promptTokenIds, [0x77, IM_END]);
  assert.deepEqual(
    whole.promptLogprobs.map((l) => l.top.length),
    [0, 2],
  );
  assert.deepEqual(
    whole.promptLogprobs.map((l) => [l.rank, l.top.map((one) => one.rank)]),
    [
      [undefined, []],
      [1, [1, 2]],
    ],
  );
});

test('prompt ids come once, with accepted, and only when asked for', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => [...bytesOf('yz'), EOS];
  const events = await stream(mesh, completeRequest({ options: options({ returnTokenIds: true }) }));
  assert.deepEqual(events[0]?.$case === 'accepted' && events[0].value.promptTokenIds, bytesOf('x = '));
  const ids = events.flatMap((e) => (e.$case === 'delta' ? e.value.tokenIds : []));
  assert.deepEqual(ids, [...bytesOf('yz'), EOS]);
  const plain = await stream(mesh, completeRequest());
  assert.deepEqual(plain[0]?.$case === 'accepted' && plain[0].value.promptTokenIds, []);
});

test('a stop token is named in whole and streamed answers; the end of the model itself is not', async (t) => {
  const mesh = await startMesh(t);
  const cases: [last: number, stopTokenIds: number[], wanted: number | undefined][] = [
    [0x41, [0x41], 0x41],
    [EOS, [0x41], undefined],
  ];
  for (const [last, stopTokenIds, wanted] of cases) {
    mesh.engine.settings.script = () => [...bytesOf('hi'), last];
    const sampling = { ...emptySampling(), stopTokenIds };
    const whole = await unary(mesh.completion, 'complete', completeRequest({ sampling }), {});
    assert.deepEqual([whole.choices[0]?.text, whole.choices[0]?.stopTokenId], ['hi', wanted]);
    assert.equal(whole.end?.usage?.completionTokens, 3, 'the id that ended it counts once');
    const events = await stream(mesh, completeRequest({ sampling }));
    const finished = events.find((e) => e.$case === 'choiceFinished');
    assert.equal(finished?.$case === 'choiceFinished' && finished.value.stopTokenId, wanted);
    const chat = await unary(mesh.chat, 'chat', { ...chatRequest(), sampling }, {});
    assert.equal(chat.choices[0]?.stopTokenId, wanted);
  }
});

test('a prompt of one token has an entry without a log probability', async (t) => {
  const mesh = await startMesh(t);
  const prompt = { $case: 'tokenIds' as const, value: { ids: [0x77] } };
  const sampling = { ...emptySampling(), maxTokens: 0, logprobs: 1 };
  const whole = await unary(mesh.completion, 'complete', completeRequest({ prompt, echo: true, sampling }), {});
  assert.deepEqual(
    whole.choices[0]?.logprobs.map((l) => [l.token, l.logprob]),
    [['w', undefined]],
  );
});

test('no engine and no tokenizer are UNAVAILABLE with a hint, not a hang', async (t) => {
  const mesh = await startMesh(t);
  await mesh.tokenizer.close();
  const first = await refusal(unary(mesh.completion, 'complete', completeRequest(), { timeoutMs: 30_000 }));
  assert.deepEqual([first.code, first.details.reason], ['UNAVAILABLE', 'NO_TOKENIZER']);
  await mesh.restartTokenizer();
  await mesh.engine.close();
  await eventually(
    () => !mesh.gateway.context.models.all().some((m) => mesh.gateway.context.models.ready(m)),
    'not ready',
  );
  const second = await refusal(unary(mesh.completion, 'complete', completeRequest(), { timeoutMs: 30_000 }));
  assert.deepEqual([second.code, second.details.reason], ['UNAVAILABLE', 'NO_ENGINE']);
  await mesh.restartEngine(0);
  await eventually(
    async () => (await unary(mesh.completion, 'complete', completeRequest(), {}).catch(() => null)) !== null,
    'serves again',
  );
});
