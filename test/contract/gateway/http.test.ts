// The HTTP front door between fakes: what is refused and how, what vLLM's clients call, streams that break.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { type Answer, post } from './fakes/http-calls.ts';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf, EOS, FIM_MIDDLE, IM_END } from './fakes/mock-tokenizer.ts';

test('bodies and paths that cannot be served', async (t) => {
  const mesh = await startMesh(t);
  const cases: [Promise<Answer>, number, string | null, string | null][] = [
    [post(mesh, '/v1/completions', '{"model":'), 400, 'invalid_json', null],
    [post(mesh, '/v1/completions', '[]'), 400, null, 'body'],
    [post(mesh, '/v1/completions', { model: 'mock' }), 400, null, 'prompt'],
    [post(mesh, '/v1/completions', { prompt: 5 }), 400, null, 'prompt'],
    [post(mesh, '/v1/completions', { prompt: [] }), 400, null, 'prompt'],
    [post(mesh, '/v1/completions', { prompt: 'x', max_tokens: -1 }), 400, null, 'max_tokens'],
    [post(mesh, '/v1/completions', { prompt: 'x', max_tokens: 1.5 }), 400, null, 'max_tokens'],
    [post(mesh, '/v1/completions', { prompt: 'x', max_tokens: '9' }), 400, null, 'max_tokens'],
    [post(mesh, '/v1/completions', { prompt: 'x', logit_bias: { a: 1 } }), 400, null, 'logit_bias.a'],
    [post(mesh, '/v1/completions', { prompt: 'x', logit_bias: { 5: 101 } }), 400, null, 'logit_bias.5'],
    [post(mesh, '/v1/completions', { prompt: 'x', n: 2, best_of: 3 }), 400, null, 'best_of'],
    [post(mesh, '/v1/completions', { prompt: [5], suffix: 'x' }), 400, null, 'suffix'],
    [post(mesh, '/v1/completions', { prompt: 'x', model: 'no' }), 404, 'model_not_found', 'model'],
    [post(mesh, '/v1/completions', { prompt: 'x', max_tokens: 5000 }), 400, 'context_length_exceeded', 'prompt'],
    [post(mesh, '/v1/chat/completions', { messages: [] }), 400, null, 'messages'],
    [
      post(mesh, '/v1/chat/completions', {
        messages: [
          { role: 'user', content: 'x' },
          { role: 'robot', content: 'x' },
        ],
      }),
      400,
      null,
      'messages[1].role',
    ],
    [
      post(mesh, '/v1/chat/completions', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }),
      400,
      null,
      'messages[0].content[0].type',
    ],
    [
      post(mesh, '/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }], tool_choice: 'required' }),
      400,
      null,
      'tool_choice',
    ],
    [post(mesh, '/v1/nothing', {}), 404, 'unknown_path', null],
    [post(mesh, '/v1/models', {}), 405, 'method_not_allowed', null],
    [
      post(mesh, '/v1/completions', { prompt: 'x' }, { 'x-request-timeout-ms': 'soon' }),
      400,
      null,
      'x-request-timeout-ms',
    ],
  ];
  for (const [answer, status, code, param] of cases) {
    const { json, ...rest } = await answer;
    assert.equal(rest.status, status, JSON.stringify(json));
    assert.equal(json.error?.param, param, JSON.stringify(json));
    if (code) assert.equal(json.error?.code, code, JSON.stringify(json));
    assert.equal(typeof json.error?.message, 'string');
  }
  assert.equal((await fetch(`${mesh.url}/v1/completions`)).headers.get('allow'), 'POST');
  const tolerant = await post(mesh, '/v1/completions?x=1', {
    prompt: 'x',
    some_new_field: { a: 1 },
    temperature: null,
    max_tokens: 2,
  });
  assert.equal(tolerant.status, 200);
});

test('every answer names its request, refusals too: by the id that came, or by one of ours', async (t) => {
  const mesh = await startMesh(t);
  const idOf = async (path: string, body: unknown, headers = {}) =>
    (await post(mesh, path, body, headers)).headers.get('x-request-id') ?? '';
  const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-7/;
  const named = { 'x-request-id': 'mine-1' };
  for (const [path, body] of [
    ['/v1/completions', { prompt: 5 }],
    ['/v1/completions', { prompt: 'x', model: 'no' }],
    ['/v1/chat/completions', { messages: [] }],
    ['/infill', { input_prefix: 5 }],
    ['/tokenize', '{'],
  ] as const) {
    assert.match(await idOf(path, body), uuid, path);
    assert.equal(await idOf(path, body, named), 'mine-1', path);
  }
  assert.match(await idOf('/v1/completions', { prompt: 'x' }, { 'x-request-id': 'no blanks' }), uuid);
  mesh.engine.settings.refuse = new QuernError('RESOURCE_EXHAUSTED', 'the queue is full', { reason: 'QUEUE_FULL' });
  assert.equal(await idOf('/v1/completions', { prompt: 'x', request_id: 'of-the-body' }, named), 'of-the-body');
  assert.equal(await idOf('/v1/completions', { prompt: 'x', stream: true }, named), 'mine-1');
});

test('nesting beyond reason is refused before anything walks it', async (t) => {
  const mesh = await startMesh(t);
  const deep = '['.repeat(100_000) + ']'.repeat(100_000);
  const messages = [{ role: 'user', content: '[[[ "{" ' }];
  const body = JSON.stringify({ messages, chat_template_kwargs: { a: 0 } });
  const refused = await post(mesh, '/v1/chat/completions', body.replace('"a":0', `"a":${deep}`));
  assert.deepEqual([refused.status, refused.json.error?.code], [400, 'json_too_deep']);
  assert.equal((await post(mesh, '/v1/chat/completions', body)).status, 200);
});

test('tokenize and detokenize in the shape of vLLM', async (t) => {
  const mesh = await startMesh(t);
  const tokens = (await post(mesh, '/tokenize', { model: 'mock', prompt: 'é<|im_end|>', return_token_strs: true }))
    .json;
  assert.deepEqual(tokens, {
    count: 3,
    max_model_len: 4096,
    tokens: [0xc3, 0xa9, IM_END],
    token_strs: ['\uFFFD', '\uFFFD', '<|im_end|>'],
  });
  const chat = (await post(mesh, '/tokenize', { messages: [{ role: 'user', content: 'x' }] })).json;
  assert.equal(chat.count, (chat.tokens as number[]).length);
  const back = (await post(mesh, '/detokenize', { model: 'mock', tokens: [0xc3, 0xa9, IM_END] })).json;
  assert.deepEqual(back, { prompt: 'é<|im_end|>' });
  assert.equal((await post(mesh, '/detokenize', { tokens: [9999] })).status, 400);
});

test('the short ways: /generate and /chat', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => [...bytesOf('hello'), EOS];
  const generated = (await post(mesh, '/generate', { prompt: 'x', max_length: 3 })).json;
  assert.deepEqual([generated.text, generated.finish_reason], ['hel', 'length']);
  assert.deepEqual((await post(mesh, '/chat', { input_text: 'hi' })).json, { reply: 'hello' });
  assert.equal((await post(mesh, '/chat', { text: 'hi' })).json.error?.param, 'input_text');
});

test("what the engine refuses is named by the caller's field", async (t) => {
  const mesh = await startMesh(t);
  const description = 'expected an id below 300, got 999999';
  const field = 'request.sampling.stop_token_ids[0]';
  mesh.engine.settings.refuse = new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, {
    fields: [{ field, description }],
  });
  for (const body of [{ prompt: 'x' }, { prompt: 'x', stream: true }]) {
    const { status, json } = await post(mesh, '/v1/completions', { ...body, stop_token_ids: [999999] });
    assert.deepEqual([status, json.error?.param], [400, 'stop_token_ids[0]']);
    assert.equal(json.error?.message, `stop_token_ids[0]: ${description}`);
  }
  assert.deepEqual(mesh.engine.requests[0]?.sampling?.stopTokenIds[0], 999999);
});

test('stop_reason: the stop string, the id of a stop token, null for the end of the model itself', async (t) => {
  const mesh = await startMesh(t);
  const cases: [number[], object, string | number | null][] = [
    [[...bytesOf('hi'), 0x41], { stop_token_ids: [0x41] }, 0x41],
    [[...bytesOf('hi'), EOS], { stop_token_ids: [0x41] }, null],
    [[...bytesOf('hi'), IM_END], { stop_token_ids: [IM_END] }, null],
    [[...bytesOf('hi'), IM_END], { stop_token_ids: [IM_END], ignore_eos: true }, IM_END],
    [bytesOf('hi END and on'), { stop: [' END'], stop_token_ids: [0x41] }, ' END'],
    [bytesOf('hi'.repeat(20)), { stop_token_ids: [0x41] }, null],
  ];
  const messages = [{ role: 'user', content: 'x' }];
  for (const [tokens, body, wanted] of cases) {
    mesh.engine.settings.script = () => tokens;
    for (const [path, input] of [
      ['/v1/completions', { prompt: 'x' }],
      ['/v1/chat/completions', { messages }],
    ] as const) {
      const asked = { ...input, ...body, max_tokens: 12 };
      const { choices } = (await post(mesh, path, asked)).json as { choices?: { stop_reason: unknown }[] };
      assert.deepEqual([path, choices?.[0]?.stop_reason], [path, wanted]);
      const streamed = JSON.stringify({ ...asked, stream: true });
      const events = await (await fetch(mesh.url + path, { method: 'POST', body: streamed })).text();
      assert.equal(events.includes(`"stop_reason":${JSON.stringify(wanted)}`), true, events);
    }
  }
});

type Chunk = {
  choices: { index: number; token_ids?: number[]; prompt_token_ids?: number[] }[];
  prompt_token_ids?: number[];
};

async function chunksOf(mesh: TestMesh, path: string, body: object): Promise<Chunk[]> {
  const text = JSON.stringify({ ...body, stream: true, return_token_ids: true });
  const events = await (await fetch(mesh.url + path, { method: 'POST', body: text })).text();
  const data = events.split('\n\n').filter((event) => event.startsWith('data: {'));
  return data.map((event) => JSON.parse(event.slice('data: '.length)) as Chunk);
}

test('return_token_ids: prompt ids in the first chunk only, each id with its text', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = (_request, choice) => [...bytesOf(`h\u00e9${choice}`), EOS];
  const idsOf = (chunks: Chunk[], index: number): number[] =>
    chunks.flatMap(({ choices }) => choices.flatMap((one) => (one.index === index ? (one.token_ids ?? []) : [])));
  const prompts = await chunksOf(mesh, '/v1/completions', { prompt: ['x', 'yz'], n: 2 });
  for (const [index, prompt] of ['x', 'x', 'yz', 'yz'].entries()) {
    const own = prompts.flatMap(({ choices }) => choices.filter((one) => one.index === index));
    assert.deepEqual(own[0]?.prompt_token_ids, bytesOf(prompt));
    assert.equal(own.filter((one) => one.prompt_token_ids).length, 1, 'once per choice');
    assert.deepEqual(idsOf(prompts, index), [...bytesOf(`h\u00e9${index % 2}`), EOS]);
  }
  const nothing = await chunksOf(mesh, '/v1/completions', { prompt: 'x', max_tokens: 0 });
  assert.deepEqual(
    nothing.map(({ choices }) => choices[0]?.prompt_token_ids),
    [bytesOf('x')],
    'an answer without text has them in its only chunk',
  );
  const messages = [{ role: 'user', content: 'x' }];
  const chat = await chunksOf(mesh, '/v1/chat/completions', { messages, n: 2 });
  const whole = (await post(mesh, '/v1/chat/completions', { messages, return_token_ids: true })).json;
  assert.deepEqual(
    chat.map((chunk) => chunk.prompt_token_ids),
    [whole.prompt_token_ids, ...chat.slice(1).map(() => undefined)],
  );
  assert.deepEqual(idsOf(chat, 1), [...bytesOf('h\u00e91'), EOS]);
  const plain = await fetch(`${mesh.url}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ prompt: 'x', stream: true }),
  });
  assert.equal((await plain.text()).includes('token_ids'), false);
});

test('prompt_logprobs: null, then per id its log probability, rank and text', async (t) => {
  const mesh = await startMesh(t);
  const asked = { prompt: 'ab', max_tokens: 1, prompt_logprobs: 2 };
  type Whole = { choices: [{ prompt_logprobs: (Record<string, { rank: number }> | null)[] }] };
  const { choices } = (await post(mesh, '/v1/completions', asked)).json as unknown as Whole;
  const [first, second] = choices[0].prompt_logprobs;
  assert.equal(first, null);
  assert.deepEqual(
    Object.entries(second ?? {}).map(([id, { rank }]) => [id, rank]),
    [
      [String(0x62), 1],
      [String(0x63), 2],
    ],
  );
});

test('health follows the engine', async (t) => {
  const mesh = await startMesh(t);
  assert.deepEqual(await (await fetch(`${mesh.url}/health`)).json(), {
    status: 'ok',
    models: [{ model: 'mock', ready: true }],
    tools: { state: 'off', tier: null },
  });
  await mesh.engine.close();
  await eventually(async () => (await fetch(`${mesh.url}/health`)).status === 503, 'not ready');
  await mesh.restartEngine(0);
  await eventually(async () => (await fetch(`${mesh.url}/health`)).status === 200, 'ready again');
});

test('before the first event a refusal is a status, after it one error event without [DONE]', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  const body = { prompt: 'x', max_tokens: 4000, stream: true };
  mesh.engine.settings.refuse = new QuernError('RESOURCE_EXHAUSTED', 'the queue is full', {
    reason: 'QUEUE_FULL',
    retryAfterMs: 1500,
  });
  const refused = await post(mesh, '/v1/completions', body);
  assert.deepEqual(
    [refused.status, refused.headers.get('retry-after'), refused.json.error?.code],
    [429, '2', 'queue_full'],
  );
  mesh.engine.settings.refuse = null;
  const response = await fetch(`${mesh.url}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'x-request-timeout-ms': '150' },
  });
  assert.equal(response.status, 200);
  const text = await response.text();
  const events = text.trim().split('\n\n');
  assert.match(events.at(-1) ?? '', /^data: \{"error":\{"message":"the request's time limit/);
  const { error } = JSON.parse((events.at(-1) ?? '').slice('data: '.length)) as { error: Record<string, unknown> };
  assert.deepEqual([error.status, error.type, error.code], [504, 'server_error', 'deadline_exceeded']);
  assert.equal(text.includes('[DONE]'), false);
  await eventually(() => mesh.engine.live === 0, 'cancelled at the engine');
});

test('control tokens are not part of an answer unless it is asked for; their ids always are', async (t) => {
  const ids = [...bytesOf('a'), FIM_MIDDLE, ...bytesOf('b'), IM_END];
  const mesh = await startMesh(t, { engine: { script: () => ids } });
  type Told = { choices: { text: string; token_ids: number[] }[] };
  const complete = async (over: object): Promise<Told['choices'][number] | undefined> => {
    const answer = await post(mesh, '/v1/completions', { prompt: 'x', return_token_ids: true, ...over });
    return (answer.json as unknown as Told).choices[0];
  };
  assert.deepEqual(await complete({}), await complete({ skip_special_tokens: true }));
  const [plain, whole] = [await complete({}), await complete({ skip_special_tokens: false })];
  assert.deepEqual([plain?.text, whole?.text], ['ab', 'a<|fim_middle|>b']);
  assert.deepEqual([plain?.token_ids, whole?.token_ids], [ids, ids]);
  const refused = await post(mesh, '/v1/completions', { prompt: 'x', skip_special_tokens: 'no' });
  assert.equal(refused.status, 400);
});
