// RequestService.Explain over gRPC, on a gateway with the mock engine.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { unary } from '#kit/rpc/client.ts';
import { eventually, startMesh } from './fakes/mesh.ts';

test('an ended, a running and a refused request explain themselves; an unknown one is NOT_FOUND', async (t) => {
  const mesh = await startMesh(t, {});
  const explain = (requestId: string) => unary(mesh.requests, 'explain', { requestId }, {});
  const complete = (id: string, body: object) =>
    fetch(`${mesh.url}/v1/completions`, {
      method: 'POST',
      headers: { 'x-request-id': id },
      body: JSON.stringify({ prompt: 'def f():', max_tokens: 5, ignore_eos: true, ...body }),
    });

  assert.equal((await complete('done-1', {})).status, 200);
  const done = await explain('done-1');
  assert.deepEqual(
    [done.method, done.model, done.user, done.outcome, done.code],
    ['complete', 'mock', 'local', 'length', ''],
  );
  assert.deepEqual(
    done.stages.map(({ name }) => name),
    ['admit', 'tokenize', 'route', 'queue', 'prefill', 'decode', 'finish'],
  );
  assert.equal(done.usage?.completionTokens, 5);
  assert.equal(done.steps, 5);
  assert.ok(done.stages.every(({ startUs, durationUs }) => startUs + durationUs <= done.durationUs + 1n));

  mesh.engine.settings.stepMs = 50;
  const stop = new AbortController();
  t.after(() => stop.abort());
  void fetch(`${mesh.url}/v1/completions`, {
    method: 'POST',
    signal: stop.signal,
    headers: { 'x-request-id': 'running-1' },
    body: JSON.stringify({ prompt: 'x', max_tokens: 100, ignore_eos: true }),
  }).catch(() => {});
  await eventually(
    async () => (await explain('running-1').catch(() => null))?.stages.at(-1)?.name === 'decode',
    'it decodes',
  );
  assert.equal((await explain('running-1')).outcome, '');
  stop.abort();
  await eventually(async () => (await explain('running-1')).outcome === 'cancelled', 'it ended');
  const split = ['admit', 'tokenize', 'route', 'queue', 'prefill', 'decode'];
  const namesOf = async (): Promise<string[]> => (await explain('running-1')).stages.map(({ name }) => name);
  await eventually(async () => (await namesOf()).includes('queue'), "the engine's own end came behind it");
  const gone = await explain('running-1');
  assert.deepEqual(await namesOf(), split);
  assert.ok(gone.stages.every(({ startUs, durationUs }) => startUs + durationUs <= gone.durationUs + 1n));
  const { promptTokens = 0, cachedTokens } = gone.usage ?? {};
  assert.deepEqual(
    [gone.timings?.prefillNs, cachedTokens],
    [2000n, Math.min(4, promptTokens)],
    'as the mock engine says',
  );

  const request = {
    model: 'nope',
    prompt: { $case: 'text' as const, value: 'x' },
    sampling: undefined,
    stop: [],
    echo: false,
    options: { requestId: 'bad-1', priorityClass: PriorityClass.PRIORITY_CLASS_UNSPECIFIED, supersedeKey: '' },
  };
  await assert.rejects(unary(mesh.completion, 'complete', request, {}), { code: 'NOT_FOUND' });
  const bad = await explain('bad-1');
  assert.deepEqual([bad.model, bad.outcome, bad.code], ['', 'not_found', 'NOT_FOUND']);
  assert.match(bad.message, /nope/);
  await assert.rejects(explain('never-seen'), { code: 'NOT_FOUND', message: /quern audit query/ });
});
