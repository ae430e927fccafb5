/** Editor plug-ins that speak llama.cpp's /infill or Tabby's completions: their bodies get what they read of the answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { post } from './fakes/http-calls.ts';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf } from './fakes/mock-tokenizer.ts';
import { recordedBody } from './fakes/recorded-requests.ts';

const promptText = (mesh: TestMesh): string =>
  Buffer.from((mesh.engine.requests.at(-1)?.tokenIds ?? []).filter((id) => id < 256)).toString();

test('llama.vim: a completion, with the members that it asks for under their paths', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('area(2, 3))\n\n\ndef other():\n    pass\n');
  const { status, json } = await post(mesh, '/infill', recordedBody('llama-vim', 'infill'));
  assert.equal(status, 200);
  assert.equal(json.content, 'area(2, 3))', 'it ends with the block around the cursor');
  assert.equal(json['timings/predicted_n'], 'area(2, 3))'.length);
  for (const name of ['prompt_n', 'prompt_ms', 'prompt_per_second', 'predicted_ms', 'predicted_per_second']) {
    assert.equal(typeof json[`timings/${name}`], 'number', name);
  }
  assert.equal(typeof json.tokens_cached, 'number');
  assert.equal(json.truncated, false);
  assert.deepEqual(Object.keys(json).length, 11, 'nothing else');
  const prompt = promptText(mesh);
  assert(prompt.includes('    print('), 'the cursor line belongs to the prefix');
  assert(prompt.includes('def area(w, h)'), 'the other file is there');
  assert.deepEqual([mesh.engine.requests[0]?.sampling?.topK, mesh.engine.requests[0]?.sampling?.maxTokens], [40, 128]);
});

test('llama.vim and llama.vscode warm the cache: the prompt is read, nothing is generated', async (t) => {
  const mesh = await startMesh(t);
  for (const client of ['llama-vim', 'llama-vscode']) {
    const { status, json } = await post(mesh, '/infill', recordedBody(client, 'warm'));
    assert.equal(status, 200, JSON.stringify(json));
    assert.equal(mesh.engine.requests.at(-1)?.sampling?.maxTokens, 0);
  }
  assert.deepEqual((await post(mesh, '/infill', recordedBody('llama-vim', 'warm'))).json, {});
  await eventually(() => mesh.engine.live === 0, 'the engine has ended all');
});

test('llama.vscode: several completions are an array', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = (_, choice) => bytesOf(`a + ${choice};\n`);
  const { json } = await post(mesh, '/infill', recordedBody('llama-vscode', 'infill'));
  const answers = json as unknown as { index: number; content: string; stop_type: string }[];
  assert.deepEqual(
    answers.map(({ index, content, stop_type }) => [index, content, stop_type]),
    [0, 1, 2].map((index) => [index, `a + ${index};\n`, 'eos']),
  );
});

test('/infill streams as llama.cpp does: content pieces, one last event with the figures, no [DONE]', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('one + two');
  const { response_fields: _, ...rest } = recordedBody('llama-vim', 'infill');
  const response = await fetch(`${mesh.url}/infill`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...rest, stream: true }),
  });
  const events = (await response.text())
    .trim()
    .split('\n\n')
    .map((line) => JSON.parse(line.slice('data: '.length)));
  assert.equal(events.map(({ content }) => content).join(''), 'one + two');
  const last = events.at(-1);
  assert.deepEqual([last.stop, last.stop_type, last.timings.predicted_n], [true, 'eos', 'one + two'.length + 1]);
  assert(events.slice(0, -1).every(({ stop }) => stop === false));
});

test('/infill: mistakes are named', async (t) => {
  const mesh = await startMesh(t);
  const { status, json } = await post(mesh, '/infill', { input_prefix: 'a', input_suffix: '', n_predict: 'many' });
  assert.equal(status, 400);
  assert.match(String(json.error?.message), /n_predict: expected/);
  const missing = await post(mesh, '/infill', { input_prefix: 'a' });
  assert.match(String(missing.json.error?.message), /input_suffix: expected a string/);
});

test("Tabby's agent: segments make an infill; line ends come back as the document has them", async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('if n < 2:\n        return n\n    return 1\n\n\nx = 1');
  const { status, json } = await post(mesh, '/v1/completions', recordedBody('tabby-agent', 'infill'));
  assert.equal(status, 200);
  assert.deepEqual(json.choices, [{ index: 0, text: 'if n < 2:\r\n        return n\r\n    return 1' }]);
  assert.match(String(json.id), /^cmpl-/);
  const { CHUNK_KIND_OPEN_FILE, CHUNK_KIND_RECENT, CHUNK_KIND_DECLARATION } = ChunkKind;
  assert.deepEqual(
    mesh.tokenizer.chunks.map(({ kind }) => kind),
    [CHUNK_KIND_OPEN_FILE, CHUNK_KIND_RECENT, CHUNK_KIND_DECLARATION],
  );
  const prompt = promptText(mesh);
  assert(!prompt.includes('secret'), 'what the remote address holds of credentials stays out');
  const order = ['b = 2', 'a = 1', 'MAX = 100', 'def fib'].map((text) => prompt.indexOf(text));
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
  assert(
    order.every((at) => at >= 0),
    prompt,
  );
});

test("Tabby's language and /infill's language_id say where a text ends", async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('"""\nusage\n"""\n\nother()\n');
  const tabby = { language: 'python', segments: { prefix: 'text = ', suffix: '\n' } };
  const { json } = await post(mesh, '/v1/completions', tabby);
  assert.deepEqual(json.choices, [{ index: 0, text: '"""\nusage\n"""' }]);
  mesh.engine.settings.script = () => bytesOf('if a:  # if (\n        b()\nc()\n');
  const place = { input_prefix: 'def f():\n    ', input_suffix: '\n', n_predict: 100 };
  const python = await post(mesh, '/infill', { ...place, language_id: 'python' });
  assert.equal(python.json.content, 'if a:  # if (\n        b()');
});

test('of several models Tabby gets the one that its health names', async (t) => {
  const env = (folder: string) => {
    const [first, second] = ['engine0', 'engine1'].map((name) => `unix://${folder}/${name}.sock`);
    return { QUERN_GATEWAY_ENGINES: `first=${first};second=${second}` };
  };
  const mesh = await startMesh(t, { engines: 2, model: { models: ['first', 'second'] }, env });
  mesh.engine.settings.script = () => bytesOf('1');
  const health = (await (await fetch(`${mesh.url}/v1/health`)).json()) as Record<string, unknown>;
  assert.equal(health.model, 'first');
  const { json } = await post(mesh, '/v1/completions', { segments: { prefix: 'a = ', suffix: '\n' } });
  assert.deepEqual(json.choices, [{ index: 0, text: '1' }]);
  const { model: _, ...unnamed } = recordedBody('llama-vim', 'infill');
  for (const [model, status] of [
    ['second', 200],
    ['third', 404],
    ['', 400],
  ] as const)
    assert.equal((await post(mesh, '/infill', { ...unnamed, model })).status, status, `/infill with "${model}"`);
});

test("Tabby's raw prompt and its health", async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('1');
  const { json } = await post(mesh, '/v1/completions', { debug_options: { raw_prompt: 'def f():\n    return ' } });
  assert.deepEqual(json.choices, [{ index: 0, text: '1' }]);
  assert.equal(promptText(mesh), 'def f():\n    return ');
  const health = (await (await fetch(`${mesh.url}/v1/health`)).json()) as Record<string, unknown>;
  assert.equal(health.model, 'mock');
  const empty = await post(mesh, '/v1/completions', { debug_options: {} });
  assert.equal(empty.status, 400);
  assert.match(String(empty.json.error?.message), /segments/);
});
