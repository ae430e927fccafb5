// What happens when an engine breaks, drains or comes back, and when the tokenizer restarts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { CompleteRequest, type CompleteResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import { unary } from '#kit/rpc/client.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf, EOS } from './fakes/mock-tokenizer.ts';

const LINE = 'for i in range(10): print(i)  # é 😀 ';

function ask(mesh: TestMesh, over: Partial<CompleteRequest> = {}, sampling = {}): Promise<CompleteResponse> {
  const request: CompleteRequest = {
    ...CompleteRequest.decode(new Uint8Array(0)),
    prompt: { $case: 'text', value: 'x' },
    sampling: { ...emptySampling(), maxTokens: 200, ...sampling },
    ...over,
  };
  return unary(mesh.completion, 'complete', request, { timeoutMs: 20_000 });
}

const started = (mesh: TestMesh, tokens = 8) =>
  eventually(() => mesh.engine.live > 0 && mesh.engine.steps >= tokens, 'some tokens are out');

test('a broken session is resumed from the tokens that were delivered, with the same seed', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  mesh.engine.settings.script = () => [...bytesOf(LINE), EOS];
  const answer = ask(mesh);
  await started(mesh);
  mesh.engine.breakSessions();
  const { choices, end } = await answer;
  assert.equal(choices[0]?.text, LINE);
  assert.equal(choices[0]?.finishReason, FinishReason.FINISH_REASON_STOP);
  const [first, second] = mesh.engine.requests;
  assert.equal(mesh.engine.requests.length, 2);
  assert.ok((second?.resumeTokenIds.length ?? 0) >= 8);
  assert.deepEqual(second?.resumeTokenIds, bytesOf(LINE).slice(0, second?.resumeTokenIds.length));
  assert.equal(second?.sampling?.seed, first?.sampling?.seed);
  assert.equal(end?.usage?.completionTokens, bytesOf(LINE).length + 1);
  assert.match(await mesh.gateway.context.metrics.render(), /quern_gateway_resumes_total\{[^}]*\} 1/);
});

test('two breaks are carried over, a third ends the request as UNAVAILABLE', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 10 } });
  mesh.engine.settings.script = () => bytesOf(LINE.repeat(4));
  const crash = async (breaks: number): Promise<void> => {
    for (let i = 0; i < breaks; i += 1) {
      const before = mesh.engine.requests.length;
      await eventually(() => mesh.engine.live === 1, 'running');
      mesh.engine.breakSessions();
      if (i < 2) await eventually(() => mesh.engine.requests.length > before, 'resumed');
    }
  };
  const twice = ask(mesh);
  await crash(2);
  assert.equal(Buffer.byteLength((await twice).choices[0]?.text ?? '') > 150, true);
  const thrice = ask(mesh).then(
    () => null,
    (error: QuernError) => error,
  );
  await crash(3);
  const error = await thrice;
  assert.deepEqual([error?.code, error?.details.reason], ['UNAVAILABLE', 'ENGINE_LOST']);
  assert.ok((error?.details.retryAfterMs ?? 0) > 0);
});

test('every choice of a broken request goes on by itself', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  mesh.engine.settings.script = (request, choice) => [
    ...bytesOf(`${(request.sampling?.n ?? 1) > 1 ? choice : '?'}${LINE}`),
    EOS,
  ];
  const answer = ask(mesh, {}, { n: 3 });
  await started(mesh);
  mesh.engine.breakSessions();
  const { choices, end } = await answer;
  assert.deepEqual(
    choices.map((c) => c.text),
    [0, 1, 2].map((i) => `${i}${LINE}`),
  );
  assert.deepEqual(
    mesh.engine.requests.slice(1).map((r) => r.sampling?.n),
    [1, 1, 1],
  );
  assert.equal(end?.usage?.completionTokens, 3 * (bytesOf(LINE).length + 2));
});

test('several choices survive a second break too, each resumed once', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 15 } });
  mesh.engine.settings.script = () => [...bytesOf(LINE), EOS];
  const answer = ask(mesh, {}, { n: 3 });
  await started(mesh, 4);
  mesh.engine.breakSessions();
  await eventually(() => mesh.engine.requests.length === 4 && mesh.engine.live === 3, 'resumed');
  mesh.engine.breakSessions();
  const { choices } = await answer;
  for (const choice of choices) assert.equal(choice.text, LINE);
  assert.equal(mesh.engine.requests.length, 7);
});

test('a request whose last token was out needs no engine for its end', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  mesh.engine.settings.holdFinished = true;
  const answer = ask(mesh, {}, { maxTokens: 5 });
  await eventually(() => mesh.engine.steps >= 5, 'all tokens are out');
  await new Promise((resolve) => setTimeout(resolve, 500)); // the gateway has them: nothing of it can be seen from outside
  mesh.engine.breakSessions();
  const { choices } = await answer;
  assert.deepEqual([choices[0]?.text.length, choices[0]?.finishReason], [5, FinishReason.FINISH_REASON_LENGTH]);
  assert.equal(mesh.engine.requests.length, 1);
});

test('a killed engine that comes back within the bound loses nothing', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5, script: () => [...bytesOf(LINE), EOS] } });
  const answers = Array.from({ length: 20 }, () => ask(mesh));
  await started(mesh);
  await mesh.restartEngine(0);
  for (const { choices } of await Promise.all(answers)) assert.equal(choices[0]?.text, LINE);
});

test('a request that comes before its engine waits for it', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => [...bytesOf('ok'), EOS] } });
  await mesh.engine.close();
  await eventually(() => !mesh.gateway.context.models.all()[0]!.replicas[0]!.ready, 'the engine is gone');
  const early = ask(mesh);
  await mesh.restartEngine(0);
  assert.equal((await early).choices[0]?.text, 'ok');
});

test('a draining engine refuses; the request goes to another replica', async (t) => {
  const mesh = await startMesh(t, { engines: 2 });
  mesh.engines[0]!.settings.refuse = new QuernError('UNAVAILABLE', 'draining', { reason: 'DRAINING' });
  for (let i = 0; i < 20; i += 1)
    await ask(mesh, { prompt: { $case: 'text', value: `${i}`.repeat(40) } }, { maxTokens: 2 });
  assert.ok(mesh.engines[0]!.requests.length <= 1);
  assert.ok(mesh.engines[1]!.requests.length >= 19);
});

test('replicas: one head stays on one engine, and the loss of the engine moves it', async (t) => {
  const mesh = await startMesh(t, { engines: 3, engine: { script: () => [...bytesOf('ok'), EOS] } });
  const prompt = { $case: 'text' as const, value: 'import numpy as np\n'.repeat(5) };
  for (let i = 0; i < 6; i += 1) await ask(mesh, { prompt });
  const counts = mesh.engines.map((engine) => engine.requests.length);
  assert.deepEqual([...counts].sort(), [0, 0, 6]);
  await mesh.engines[counts.indexOf(6)]?.close();
  assert.equal((await ask(mesh, { prompt })).choices[0]?.text, 'ok');
});

test('an engine that does not answer a cancel delays the end by a bound, and shows as a zombie', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 2 } });
  mesh.engine.settings.script = () => bytesOf(`stop${'.'.repeat(4000)}`);
  mesh.engine.settings.ignoreCancels = true;
  const { choices, end } = await ask(mesh, { stop: ['stop'] }, { maxTokens: 4000 });
  assert.deepEqual([choices[0]?.text, choices[0]?.stopString, end?.usage?.completionTokens], ['', 'stop', 4]);
  const [replica] = mesh.gateway.context.models.all()[0]!.replicas;
  assert.equal(replica?.inFlight, 1);
});

test('a tokenizer that restarts between and during calls is not noticed', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => [...bytesOf('ok'), EOS] } });
  assert.equal((await ask(mesh)).choices[0]?.text, 'ok');
  await mesh.restartTokenizer();
  assert.equal((await ask(mesh)).choices[0]?.text, 'ok');
  await mesh.tokenizer.close();
  const during = ask(mesh);
  await mesh.restartTokenizer();
  assert.equal((await during).choices[0]?.text, 'ok');
});

test('an id outside the vocabulary fails its request only', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  mesh.engine.settings.script = (request) => (request.tokenIds[0] === 0x62 ? [0x61, 9999] : bytesOf('fine'.repeat(10)));
  const good = ask(mesh, {}, { maxTokens: 40 });
  const bad = ask(mesh, { prompt: { $case: 'text', value: 'bad' } });
  await assert.rejects(
    bad,
    (error: QuernError) => error.code === 'INTERNAL' && error.details.reason === 'VOCABULARY_MISMATCH',
  );
  assert.equal((await good).choices[0]?.text, 'fine'.repeat(10));
  await eventually(() => mesh.engine.live === 0, 'cancelled');
});

test('drain: running requests end, new ones are refused, health says no', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  const running = ask(mesh, {}, { maxTokens: 20 });
  await eventually(() => mesh.engine.live === 1, 'running');
  const drained = mesh.gateway.drain({ graceMs: 5_000, signal: AbortSignal.timeout(5_000) });
  await assert.rejects(ask(mesh), (error: QuernError) => error.code === 'UNAVAILABLE');
  assert.equal((await running).choices[0]?.text.length, 20);
  await drained;
  const late = await startMesh(t, { engine: { stepMs: 5 } });
  const body = JSON.stringify({ prompt: 'x', max_tokens: 4000, stream: true });
  const response = await fetch(`${late.url}/v1/completions`, { method: 'POST', body });
  const grace = late.gateway.drain({ graceMs: 50, signal: AbortSignal.timeout(50) });
  assert.match(await response.text(), /data: \{"error":\{"message":"this gateway is stopping/);
  await grace;
});
