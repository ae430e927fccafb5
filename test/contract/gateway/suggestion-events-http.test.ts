/** What became of suggestions over HTTP, and what a client asks a model's abilities by: gRPC's ReportEvents and GetCapabilities. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unary } from '#kit/rpc/client.ts';
import { post } from './fakes/http-calls.ts';
import { startMesh, type TestMesh } from './fakes/mesh.ts';

async function counted(mesh: TestMesh, name: string): Promise<string[]> {
  const text = await (await fetch(`${mesh.url}/metrics`)).text();
  return text.split('\n').filter((line) => line.startsWith(name));
}

test('a report of several events is counted as gRPC counts it', async (t) => {
  const mesh = await startMesh(t);
  const events = [
    { request_id: 'r-1', choice: 0, kind: 'shown', elapsed_ms: 120, language_id: 'python', from_cache: true },
    { request_id: 'r-1', kind: 'accepted', characters: 40, language_id: 'python' },
    { request_id: 'r-1', kind: 'kept', characters: 38, after_seconds: 30, language_id: 'python' },
    { kind: 'not_shown', reason: 'FILTERED' },
  ];
  const { status, json } = await post(mesh, '/v1/events', { events });
  assert.deepEqual([status, json], [200, { counted: 4 }]);
  const lines = (await counted(mesh, 'quern_suggestion_')).filter((line) => !/_bucket|_sum|_created/.test(line));
  const value = (pattern: RegExp): string | undefined => lines.find((line) => pattern.test(line))?.split(' ')[1];
  assert.equal(value(/events_total\{.*event="shown".*language="python"/), '1');
  assert.equal(value(/events_total\{.*event="not_shown".*reason="FILTERED"/), '1');
  assert.equal(value(/characters_total\{.*event="accepted".*language="python"/), '40');
  assert.equal(value(/characters_total\{.*event="kept".*language="python"/), '38');
  assert.equal(value(/shown_seconds_count\{.*cache="hit"/), '1');
});

test('of a report with a mistake nothing is counted, and the mistake is named by its path', async (t) => {
  const mesh = await startMesh(t);
  const good = { kind: 'shown' };
  const refused: [object[], RegExp][] = [
    [[], /events: expected at least 1 element, got 0/],
    [[good, { kind: 'hovered' }], /events\[1\]\.kind: expected one of shown, accepted, .*"hovered"/],
    [[good, { kind: 'not_shown', reason: 'TIRED' }], /events\[1\]\.reason: expected one of DISABLED/],
    [[good, { ...good, elapsed_ms: 90_000_000 }], /events\[1\]\.elapsed_ms: expected at most a day/],
    [[good, { ...good, characters: -1 }], /events\[1\]\.characters: expected a number of at least 0, got -1/],
    [[good, { ...good, request_id: 'a b' }], /events\[1\]\.request_id: expected 1\.\.128/],
    [Array.from({ length: 257 }, () => good), /events: expected at most 256 elements, got 257/],
  ];
  for (const [events, message] of refused) {
    const { status, json } = await post(mesh, '/v1/events', { events });
    assert.equal(status, 400);
    assert.match(String(json.error?.message), message);
  }
  assert.deepEqual(await counted(mesh, 'quern_suggestion_events_total{'), []);
});

test('GET /v1/models says of a model what GetCapabilities says', async (t) => {
  const mesh = await startMesh(t);
  const known = await unary(mesh.completion, 'getCapabilities', { model: '' }, {});
  const model = (await (await fetch(`${mesh.url}/v1/models/mock`)).json()) as Record<string, unknown>;
  const { infill, ...quern } = model.quern as { infill: Record<string, unknown> } & Record<string, unknown>;
  assert.equal(quern.tokenizer_hash, known.tokenizerHash);
  assert.equal(quern.model_hash, known.modelHash);
  assert.match(known.tokenizerHash, /^[0-9a-f]{64}$/);
  assert.deepEqual([quern.ready, quern.fim_family], [known.ready, known.fimFamily]);
  assert.deepEqual(infill, {
    prompt_order: known.promptOrder,
    chunks_max: known.chunksMax,
    stop_max: 16,
    max_tokens_default: known.maxTokensDefault,
    prompt_tokens: known.infillPromptTokens,
    modes: ['single_line', 'multi_line', 'auto', 'unbounded'],
  });
});
