/** POST /infill: llama.cpp's limits as its clients know them, and what gRPC's Infill has beside them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { unary } from '#kit/rpc/client.ts';
import { post } from './fakes/http-calls.ts';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf, FIM_PREFIX } from './fakes/mock-tokenizer.ts';

type Infilled = {
  index: number;
  content: string;
  tokens: number[];
  stop: boolean;
  tokens_predicted: number;
  tokens_evaluated: number;
  tokens_cached: number;
  has_new_line: boolean;
  truncated: boolean;
  stop_type: string;
  stopping_word: string;
  generation_settings: { n_ctx: number; n_predict: number };
  timings: { predicted_n: number };
  quern: {
    request_id: string;
    trace_id: string;
    finish_reason: string;
    scope_ended: boolean;
    fim_family: string;
  } & Record<'dropped_prefix_tokens' | 'dropped_suffix_tokens' | 'dropped_chunks' | 'max_prompt_tokens', number>;
};

const PLACE = { input_prefix: 'def f():\n    ', input_suffix: '\n' };

async function infill(mesh: TestMesh, body: object): Promise<Infilled> {
  const { status, json } = await post(mesh, '/infill', { ...PLACE, ...body });
  assert.equal(status, 200, JSON.stringify(json));
  return json as unknown as Infilled;
}

async function streamed(mesh: TestMesh, body: object): Promise<{ headers: Headers; events: Infilled[] }> {
  const init = { method: 'POST', body: JSON.stringify({ ...PLACE, ...body, stream: true }) };
  const response = await fetch(`${mesh.url}/infill`, init);
  assert.equal(response.status, 200);
  const lines = (await response.text()).trim().split('\n\n');
  return { headers: response.headers, events: lines.map((line) => JSON.parse(line.slice('data: '.length))) };
}

async function refusal(
  mesh: TestMesh,
  path: string,
  body: object,
): Promise<{ status: number; message: string; param: unknown }> {
  const { status, json } = await post(mesh, path, body);
  return { status, message: String(json.error?.message), param: json.error?.param };
}

test('n_predict beyond the context is what fits, as in llama.cpp; the answer says that the context ran out', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 0, contextLength: 200 } });
  mesh.engine.settings.script = () => bytesOf('x'.repeat(1_000));
  const size = `${PLACE.input_prefix}${PLACE.input_suffix}`.length + 3;
  for (const n_predict of [5_000, -1, 200, 190]) {
    const answer = await infill(mesh, { n_predict });
    assert.equal(answer.tokens_predicted, 200 - size, `n_predict ${n_predict}`);
    assert.deepEqual([answer.stop_type, answer.truncated, answer.tokens_cached], ['limit', true, 200]);
    assert.equal(answer.generation_settings.n_predict, n_predict);
  }
  const fitting = await infill(mesh, { n_predict: 100 });
  assert.deepEqual([fitting.tokens_predicted, fitting.stop_type, fitting.truncated], [100, 'limit', false]);
  assert.equal((await infill(mesh, {})).tokens_predicted, 64, 'without n_predict');
});

test('a prompt that would fill the context leaves half of it, or n_predict if that is less', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 0, contextLength: 200 } });
  mesh.engine.settings.script = () => bytesOf('x'.repeat(1_000));
  const input_prefix = 'p'.repeat(500);
  for (const [n_predict, evaluated] of [
    [5_000, 100],
    [-1, 100],
    [150, 100],
    [20, 180],
  ] as const) {
    const answer = await infill(mesh, { input_prefix, n_predict });
    assert.deepEqual([answer.tokens_evaluated, answer.tokens_predicted], [evaluated, 200 - evaluated], `${n_predict}`);
    assert.equal(answer.quern.dropped_prefix_tokens, 500 + 1 + 3 - evaluated);
  }
});

test('a prompt has as many tokens as the model is best given, unless the caller says otherwise or fewer fit', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 0, contextLength: 400 }, model: { infillPromptTokens: 100 } });
  mesh.engine.settings.script = () => bytesOf('x = 1');
  const input_prefix = `${'p'.repeat(299)}\n`;
  const all = input_prefix.length + 1 + 3;
  const asked = { input_prefix, n_predict: 20 };
  for (const [max_prompt_tokens, evaluated, truncated] of [
    [undefined, 100, false],
    [60, 60, false],
    [300, 300, false],
    [5_000, all, false],
  ] as const) {
    const answer = await infill(mesh, { ...asked, max_prompt_tokens });
    const { dropped_prefix_tokens: dropped, max_prompt_tokens: most } = answer.quern;
    assert.deepEqual([answer.tokens_evaluated, dropped, answer.truncated], [evaluated, all - evaluated, truncated]);
    assert.equal(most, Math.min(max_prompt_tokens ?? 100, 380));
  }
  const full = await infill(mesh, { ...asked, n_predict: 200, max_prompt_tokens: 5_000 });
  assert.deepEqual([full.tokens_evaluated, full.truncated], [200, true], 'there the context is what is full');
  const first = await streamed(mesh, asked);
  assert.equal(first.events.at(-1)?.tokens_evaluated, 100);
  // A name that fills what is advised: then what fits is better than nothing. Who asks for so little is told.
  const path = 'd/'.repeat(60);
  assert.equal((await infill(mesh, { ...asked, path })).tokens_evaluated, all);
  const { status, param } = await refusal(mesh, '/infill', { ...PLACE, ...asked, path, max_prompt_tokens: 100 });
  assert.deepEqual([status, param], [400, 'max_prompt_tokens']);
  const { json } = await post(mesh, '/v1/completions', { segments: { prefix: input_prefix, suffix: '\n' } });
  assert.ok(json);
  assert.equal(mesh.engine.requests.at(-1)?.tokenIds.length, 100, 'in the form of Tabby too');
});

test('what cannot be is refused by its own name, value and bound', async (t) => {
  const mesh = await startMesh(t);
  const refused = async (over: object): Promise<string> => {
    const { status, message } = await refusal(mesh, '/infill', { ...PLACE, ...over });
    assert.equal(status, 400);
    return message;
  };
  assert.match(await refused({ n_predict: -2 }), /n_predict: expected a number of at least -1, got -2/);
  assert.match(await refused({ n_predict: 2 ** 40 }), /n_predict: expected .* at most 4294967295, got 1099511627776/);
  assert.match(await refused({ n_predict: 8, min_tokens: 9 }), /min_tokens: expected at most n_predict \(8\), got 9/);
  assert.match(await refused({ mode: 'two_lines' }), /mode: expected one of single_line, multi_line, .*"two_lines"/);
  assert.match(await refused({ soft_deadline_ms: 0 }), /soft_deadline_ms: expected a number of at least 1, got 0/);
  assert.match(await refused({ path: 'p'.repeat(5_000) }), /path: expected at most 4096 characters, got 5000/);
  const input_extra = [{ filename: 'f'.repeat(5_000), text: '' }];
  assert.match(await refused({ input_extra }), /input_extra\[0\]\.filename: expected at most 4096 characters/);
});

test('of several completions each has its own count of tokens, whole and streamed', async (t) => {
  const mesh = await startMesh(t);
  const texts = ['1', 'twenty-one\n', 'three hundred and twenty-one'];
  mesh.engine.settings.script = (_, choice) => bytesOf(texts[choice] ?? '');
  const counts = texts.map((text) => Buffer.byteLength(text) + 1); // and the id that ends it
  const answers = (await infill(mesh, { n_cmpl: 3, mode: 'unbounded' })) as unknown as Infilled[];
  assert.deepEqual(
    answers.map(({ content, tokens_predicted, timings }) => [content, tokens_predicted, timings.predicted_n]),
    texts.map((text, i) => [text, counts[i], counts[i]]),
  );
  const [first] = answers;
  assert.equal(first?.tokens_cached, (first?.tokens_evaluated ?? 0) + 2);
  const { events } = await streamed(mesh, { n_cmpl: 3, mode: 'unbounded' });
  const ends = events.filter(({ stop }) => stop).sort((a, b) => a.index - b.index);
  assert.deepEqual(
    ends.map(({ tokens_predicted, has_new_line }) => [tokens_predicted, has_new_line]),
    counts.map((count, i) => [count, i === 1]),
  );
});

test('t_max_predict_ms ends a text with a line, never within one', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  const line = 'a = 1\n';
  mesh.engine.settings.script = () => bytesOf(line.repeat(500));
  const late = await infill(mesh, { t_max_predict_ms: 1, n_predict: 3_000, mode: 'unbounded' });
  assert.deepEqual([late.stop_type, late.quern.finish_reason, late.truncated], ['limit', 'length', false]);
  assert.equal(late.content, line.repeat(late.content.length / line.length));
  assert(late.content.length < 3_000, `${late.content.length} of 3000`);
  assert.equal(late.tokens_predicted, late.content.length);
  await eventually(() => mesh.engine.live === 0, 'the engine has stopped too');
  const oneLine = await infill(mesh, { t_max_predict_ms: 1, n_predict: 40, mode: 'single_line' });
  assert.deepEqual([oneLine.content, oneLine.stop_type], ['a = 1', 'word'], 'a first line is always whole');
});

test('stop strings: /infill takes 16, /v1/completions 4 as OpenAI; a refusal counts them and says what to do', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('one S15 two');
  const many = (count: number): string[] => Array.from({ length: count }, (_, i) => `S${i}`);
  const stopped = await infill(mesh, { stop: many(16) });
  assert.deepEqual([stopped.content, stopped.stop_type, stopped.stopping_word], ['one ', 'word', 'S15']);
  const over = await refusal(mesh, '/infill', { ...PLACE, stop: many(17) });
  assert.deepEqual(over, {
    status: 400,
    message: 'stop: expected at most 16 stop strings, got 17; send fewer',
    param: 'stop',
  });
  const completion = await refusal(mesh, '/v1/completions', { prompt: 'a', stop: many(14) });
  assert.deepEqual(
    [completion.status, completion.message],
    [400, 'stop: expected at most 4 stop strings, got 14; send fewer, or fill in by POST /infill, which takes 16'],
  );
  const messages = [{ role: 'user', content: 'hi' }];
  const chat = await refusal(mesh, '/v1/chat/completions', { messages, stop: many(5) });
  assert.equal(chat.message, 'stop: expected at most 4 stop strings, got 5; send fewer');
  const wrong = await refusal(mesh, '/infill', { ...PLACE, stop: ['a', 7] });
  assert.match(wrong.message, /stop\[1\]: expected a string, got 7/);
});

test("Zed's request with the marks of one family is answered with what it reads", async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('a + b');
  const stop = ['<|endoftext|>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>'];
  const prompt = '<|fim_prefix|>def add(a, b):\n    return <|fim_suffix|>\n<|fim_middle|>';
  const { status, json } = await post(mesh, '/v1/completions', { model: 'mock', prompt, max_tokens: 64, stop });
  assert.equal(status, 200, JSON.stringify(json));
  assert.equal((json.choices as { text: string }[])[0]?.text, 'a + b');
  assert.match(String(json.id), /^cmpl-/);
  assert.equal(mesh.engine.requests[0]?.tokenIds[0], FIM_PREFIX, 'the marks are control tokens');
});

test('path, mode, repository and kinds of chunks are as in gRPC; the answer tells what ended it', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('if a:  # if (\n        b()\nc()\n');
  const python = await infill(mesh, { path: 'src/a.py', n_predict: 100 });
  assert.equal(python.content, 'if a:  # if (\n        b()', 'the language is read by the path');
  assert.deepEqual([python.quern.scope_ended, python.quern.finish_reason, python.stop_type], [true, 'stop', 'eos']);
  assert.equal(python.quern.fim_family, 'mock-fim');
  const unbounded = await infill(mesh, { path: 'src/a.py', mode: 'unbounded' });
  assert.deepEqual([unbounded.content.endsWith('c()\n'), unbounded.quern.scope_ended], [true, false]);
  const single = await infill(mesh, { mode: 'single_line' });
  assert.deepEqual([single.content, single.quern.scope_ended], ['if a:  # if (', false]);
  const auto = await infill(mesh, { mode: 'auto', input_suffix: ' + 1)\n' });
  assert.equal(auto.content, 'if a:  # if (', 'code stands behind the cursor');
  const kinds = ['declaration', 'open_file', 'recent', null] as const;
  await infill(mesh, { input_extra: kinds.map((kind) => ({ filename: 'b.py', text: 'b = 1', kind })) });
  const { CHUNK_KIND_DECLARATION, CHUNK_KIND_OPEN_FILE, CHUNK_KIND_RECENT } = ChunkKind;
  assert.deepEqual(
    mesh.tokenizer.chunks.map(({ kind }) => kind),
    [CHUNK_KIND_DECLARATION, CHUNK_KIND_OPEN_FILE, CHUNK_KIND_RECENT, undefined],
  );
});

test('the request has an id that the head and the answer tell, streamed too; ids of tokens when asked for', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('ab');
  const { status, json, headers } = await post(mesh, '/infill', { ...PLACE, return_tokens: true });
  assert.equal(status, 200);
  const whole = json as unknown as Infilled;
  assert.equal(headers.get('x-request-id'), whole.quern.request_id);
  assert.equal(headers.get('x-trace-id'), whole.quern.trace_id);
  assert.deepEqual(whole.tokens.slice(0, 2), bytesOf('ab'));
  const { headers: head, events } = await streamed(mesh, { request_id: 'key-7', return_token_ids: true });
  assert.equal(head.get('x-request-id'), 'key-7');
  assert.equal(events.at(-1)?.quern.request_id, 'key-7');
  assert.deepEqual(events.flatMap(({ tokens }) => tokens).slice(0, 2), bytesOf('ab'));
  assert.deepEqual((await infill(mesh, {})).tokens, [], 'as in llama.cpp');
  const { json: picked } = await post(mesh, '/infill', { ...PLACE, response_fields: ['content', 'quern/scope_ended'] });
  assert.deepEqual(picked, { content: 'ab', 'quern/scope_ended': false });
});

test('a text that is cancelled from elsewhere says so', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 20 } });
  mesh.engine.settings.script = () => bytesOf('x'.repeat(4_000));
  const cancelled = streamed(mesh, { request_id: 'first', n_predict: 4_000 });
  await eventually(() => mesh.engine.steps > 2, 'text is made');
  await unary(mesh.requests, 'cancel', { requestId: 'first' }, {});
  const last = (await cancelled).events.at(-1);
  assert.deepEqual([last?.stop, last?.stop_type, last?.quern.finish_reason], [true, 'limit', 'cancelled']);
});
