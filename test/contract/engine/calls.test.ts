// Generate, Abort, Describe, GetLoad, Drain, health, metrics and spans, against the real engine on a tiny random model.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HealthClient, HealthCheckResponse_ServingStatus as ServingStatus } from '#gen/grpc/health/v1/health.ts';
import type { GenerateResponse } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { CONTEXT_LENGTH, generation, LONG, sampling, skip, startTinyEngine, untilIdle } from './support/engine.ts';

async function collect(stream: AsyncIterable<GenerateResponse>) {
  const tokens: number[] = [];
  const ends = [];
  for await (const { event } of stream) {
    if (event?.$case === 'tokens') tokens.push(...event.value.tokenIds);
    if (event?.$case === 'finished') ends.push(event.value);
  }
  return { tokens, ends };
}

test('generate: streams tokens, then finished as the last message', { skip }, async (t) => {
  const { client, spans } = await startTinyEngine(t);
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const request = generation({ traceparent });
  const { tokens, ends } = await collect(serverStream(client, 'generate', { request }));
  assert.equal(tokens.length, 4);
  assert.equal(ends.length, 1);
  assert.equal(ends[0]?.handle, 0);
  const ours = spans.filter(({ context }) => context.traceId === '0af7651916cd43dd8448eb211c80319c');
  const method = 'quern.engine.v1.EngineService/Generate';
  const whole = ours.find(({ name }) => name === method);
  assert.equal(whole?.parentSpanId, 'b7ad6b7169203331');
  assert.deepEqual(
    ours.map(({ name }) => name).sort(),
    ['engine.decode', 'engine.prefill', 'engine.queue', method].sort(),
  );
  for (const span of ours) assert.ok(span.endUnixNs >= span.startUnixNs);
});

test('generate: a refusal ends the call by status with the field', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const request = generation({ sampling: sampling({ topP: -1 }) });
  await assert.rejects(collect(serverStream(client, 'generate', { request })), (error) => {
    assert.ok(error instanceof QuernError);
    assert.equal(error.code, 'INVALID_ARGUMENT');
    assert.equal(error.details.fields?.[0]?.field, 'request.sampling.top_p');
    return true;
  });
});

test('generate: closing the call cancels, and so does its deadline', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const request = generation({ sampling: sampling({ maxTokens: LONG }) });
  for await (const { event } of serverStream(client, 'generate', { request })) {
    if (event) break;
  }
  await untilIdle(service);
  const again = generation({ sampling: sampling({ maxTokens: LONG }) });
  await assert.rejects(collect(serverStream(client, 'generate', { request: again }, { timeoutMs: 40 })), {
    code: 'DEADLINE_EXCEEDED',
  });
  await untilIdle(service);
});

test('generate: max_tokens 0 fills the prefix cache', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const tokenIds = Array.from({ length: 70 }, (_, i) => i + 1);
  const warm = await collect(
    serverStream(client, 'generate', { request: generation({ tokenIds, sampling: sampling({ maxTokens: 0 }) }) }),
  );
  assert.equal(warm.tokens.length, 0);
  assert.equal(warm.ends[0]?.usage?.completionTokens, 0);
  const hot = await collect(serverStream(client, 'generate', { request: generation({ tokenIds }) }));
  assert.equal(hot.ends[0]?.usage?.cachedTokens, 64);
  const stranger = await collect(
    serverStream(client, 'generate', { request: generation({ tokenIds, tenant: 'other' }) }),
  );
  assert.equal(stranger.ends[0]?.usage?.cachedTokens, 0);
  assert.deepEqual(stranger.tokens, hot.tokens);
});

test('abort: ends by request id, tells unknown ids', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const request = generation({ requestId: 'long-one', sampling: sampling({ maxTokens: LONG }) });
  const running = collect(serverStream(client, 'generate', { request }));
  while (service.native.load().running === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const answer = await unary(client, 'abort', { requestIds: ['long-one', 'nobody', 'nobody'] });
  assert.deepEqual(answer, { aborted: ['long-one'], unknown: ['nobody'] });
  const { ends } = await running;
  assert.equal(ends[0]?.choices[0]?.reason, 3);
  await assert.rejects(unary(client, 'abort', { requestIds: Array(1025).fill('x') }), { code: 'INVALID_ARGUMENT' });
});

test('describe and get-load tell the model, its limits and the load', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const model = await unary(client, 'describe', {});
  assert.equal(model.model, 'tiny');
  assert.equal(model.architecture, 'Qwen2ForCausalLM');
  assert.equal(model.contextLength, CONTEXT_LENGTH);
  assert.equal(model.vocabularySize, 512);
  assert.equal(model.maxNumSeqs, 4);
  assert.ok(model.instanceId.length > 8 && model.modelHash.length > 8 && model.kvBytes > 0n);
  const load = await unary(client, 'getLoad', {});
  assert.equal(load.running, 0);
  assert.equal(load.freeBlocks, model.numBlocks);
  assert.equal(load.kvUsage, 0);
});

test('drain: reports the remaining count until nothing is left; health goes down', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const health = openChannel(HealthClient, { address: service.address });
  t.after(() => health.close());
  const check = async () => (await unary(health, 'check', { service: '' })).status;
  assert.equal(await check(), ServingStatus.SERVING);
  const request = generation({ sampling: sampling({ maxTokens: 500 }) });
  const running = collect(serverStream(client, 'generate', { request }));
  while (service.native.load().running === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const seen: number[] = [];
  for await (const { remaining } of serverStream(client, 'drain', { graceMs: 9_000 })) {
    seen.push(remaining);
    if (seen.length === 1) assert.equal(await check(), ServingStatus.NOT_SERVING);
  }
  assert.equal(seen[0], 1);
  assert.equal(seen.at(-1), 0);
  assert.equal((await running).tokens.length, 500);
  await assert.rejects(collect(serverStream(client, 'generate', { request: generation() })), { code: 'UNAVAILABLE' });
});

test('drain: without grace the rest is cancelled', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const request = generation({ sampling: sampling({ maxTokens: LONG }) });
  const running = collect(serverStream(client, 'generate', { request }));
  running.catch(() => {});
  while (service.native.load().running === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const seen: number[] = [];
  for await (const { remaining } of serverStream(client, 'drain', { graceMs: 0 })) seen.push(remaining);
  assert.equal(seen.at(-1), 0);
  await assert.rejects(running, { code: 'UNAVAILABLE' });
});

test('metrics: vLLM’s names carry the engine’s numbers', { skip }, async (t) => {
  const { client, metrics } = await startTinyEngine(t);
  await collect(serverStream(client, 'generate', { request: generation() }));
  const text = await metrics.render();
  for (const line of [
    'vllm:num_requests_running{model_name="tiny",service="engine"} 0',
    'vllm:num_requests_waiting{model_name="tiny",service="engine"} 0',
    'vllm:kv_cache_usage_perc{model_name="tiny",service="engine"} 0',
    'vllm:generation_tokens_total{model_name="tiny",service="engine"} 4',
    'vllm:prompt_tokens_total{model_name="tiny",service="engine"} 5',
    'vllm:request_success_total{model_name="tiny",finished_reason="length",service="engine"} 1',
    'quern_engine_orphan_requests{model_name="tiny",service="engine"} 0',
  ]) {
    assert.ok(text.includes(line), `expected ${line}`);
  }
  assert.match(text, /vllm:time_to_first_token_seconds_count\{[^}]*\} 1/);
});
