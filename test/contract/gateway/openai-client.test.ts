// The official OpenAI client for Node, unmodified, against the gateway.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { type APIError } from 'openai';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf, EOS, IM_END } from './fakes/mock-tokenizer.ts';

function client(mesh: TestMesh): OpenAI {
  return new OpenAI({ baseURL: `${mesh.url}/v1`, apiKey: 'unused', maxRetries: 0 });
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

test('completions, whole and streamed, give the same text and usage', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('return a + b\n');
  const openai = client(mesh);
  const whole = await openai.completions.create({ model: 'mock', prompt: 'def add(a, b):', max_tokens: 50 });
  assert.equal(whole.object, 'text_completion');
  assert.equal(whole.choices[0]?.text, 'return a + b\n');
  assert.equal(whole.choices[0]?.finish_reason, 'stop');
  assert.deepEqual(whole.usage, {
    prompt_tokens: 14,
    completion_tokens: 14,
    total_tokens: 28,
    prompt_tokens_details: { cached_tokens: 4 },
  });
  const stream = await openai.completions.create({
    model: 'mock',
    prompt: 'def add(a, b):',
    max_tokens: 50,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  const reasons: (string | null)[] = [];
  const ids = new Set<string>();
  let usage: unknown;
  for await (const chunk of stream) {
    ids.add(chunk.id);
    text += chunk.choices[0]?.text ?? '';
    if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
    if (chunk.usage) usage = chunk.usage;
  }
  assert.equal(text, 'return a + b\n');
  assert.deepEqual(reasons, ['stop']);
  assert.equal(ids.size, 1);
  assert.deepEqual(usage, whole.usage);
});

type Timed = { timings?: { queue_ms: number; prefill_ms: number; decode_ms: number } };

function checkTimings(answer: object | undefined): void {
  const { timings } = (answer ?? {}) as Timed;
  // What the mock engine reports: 1 and 2 microseconds, and a measured time for the tokens.
  assert.deepEqual([timings?.queue_ms, timings?.prefill_ms], [0.001, 0.002]);
  assert.ok(timings && timings.decode_ms > 0 && timings.decode_ms < 60_000, String(timings?.decode_ms));
}

test('timings stand in the answer, whole and streamed, with and without a usage chunk', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 2 } });
  mesh.engine.settings.script = () => bytesOf(`abc stop${'.'.repeat(500)}`);
  const openai = client(mesh);
  const messages = [{ role: 'user' as const, content: 'x' }];
  // A stop string is found here, before the engine's end with its timings.
  for (const more of [{ max_tokens: 5 }, { max_tokens: 400, stop: ['stop'] }, { max_tokens: 5, n: 2 }]) {
    const text = { model: 'mock', prompt: ['x', 'y'], ...more };
    const chat = { model: 'mock', messages, ...more };
    const whole = await openai.completions.create(text);
    checkTimings(whole);
    assert.equal(whole.id, `cmpl-${whole._request_id}`);
    checkTimings(await openai.chat.completions.create(chat));
    for (const include_usage of [false, true]) {
      const how = { stream: true as const, stream_options: { include_usage } };
      const streams = [
        await all(await openai.completions.create({ ...text, ...how })),
        await all(await openai.chat.completions.create({ ...chat, ...how })),
      ];
      for (const chunks of streams) {
        assert.deepEqual(
          chunks.map((chunk) => 'timings' in chunk),
          chunks.map((_, i) => i === chunks.length - 1),
        );
        checkTimings(chunks.at(-1));
        const reasons = chunks.flatMap((chunk) => chunk.choices.flatMap((choice) => choice.finish_reason ?? []));
        assert.equal(reasons.length, chunks === streams[0] ? 2 * (more.n ?? 1) : (more.n ?? 1));
        assert.equal(chunks.at(-1)?.choices.length, include_usage ? 0 : 1);
      }
    }
  }
});

test('the default of max_tokens is 16', async (t) => {
  const mesh = await startMesh(t);
  const { choices, usage } = await client(mesh).completions.create({ model: 'mock', prompt: 'x' });
  assert.equal(choices[0]?.finish_reason, 'length');
  assert.equal(usage?.completion_tokens, 16);
});

test('chat, whole and streamed', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => [...bytesOf('Grüße 😀'), IM_END];
  const openai = client(mesh);
  const messages = [
    { role: 'developer' as const, content: 'Be brief.' },
    {
      role: 'user' as const,
      content: [
        { type: 'text' as const, text: 'Say ' },
        { type: 'text' as const, text: 'hello' },
      ],
    },
  ];
  const whole = await openai.chat.completions.create({ model: 'mock', messages });
  assert.equal(whole.object, 'chat.completion');
  assert.deepEqual(whole.choices[0]?.message, { role: 'assistant', content: 'Grüße 😀', refusal: null });
  assert.equal(whole.choices[0]?.finish_reason, 'stop');
  assert.equal(whole.usage?.prompt_tokens_details?.cached_tokens, 4);
  const stream = await openai.chat.completions.create({
    model: 'mock',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = await all(stream);
  assert.deepEqual(chunks[0]?.choices[0]?.delta, { role: 'assistant', content: '' });
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), 'Grüße 😀');
  assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop');
  assert.deepEqual(chunks.at(-1)?.usage, whole.usage);
  assert.deepEqual(chunks.at(-1)?.choices, []);
  assert.equal(chunks[1]?.usage, null);
  const prompt = Buffer.from(mesh.engine.requests[0]!.tokenIds.filter((id) => id < 256)).toString();
  assert.equal(prompt, 'system\nBe brief.\nuser\nSay hello\nassistant\n');
});

test('the stream helper of the client assembles the same message', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => [...bytesOf('fn main() {}'), EOS];
  const runner = client(mesh).chat.completions.stream({ model: 'mock', messages: [{ role: 'user', content: 'x' }] });
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0]?.message.content, 'fn main() {}');
});

test('log probabilities in both shapes', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('ab');
  const openai = client(mesh);
  const chat = await openai.chat.completions.create({
    model: 'mock',
    messages: [{ role: 'user', content: 'x' }],
    logprobs: true,
    top_logprobs: 2,
  });
  const content = chat.choices[0]?.logprobs?.content ?? [];
  assert.deepEqual(
    content.map((c) => [c.token, c.bytes, c.top_logprobs.length]),
    [
      ['a', [97], 2],
      ['b', [98], 2],
    ],
  );
  assert.ok(Math.abs((content[0]?.logprob ?? 0) + 0.1) < 1e-6);
  const legacy = await openai.completions.create({ model: 'mock', prompt: 'xy', logprobs: 2, echo: true });
  const shape = legacy.choices[0]?.logprobs;
  assert.equal(legacy.choices[0]?.text, 'xyab');
  assert.deepEqual(shape?.tokens, ['x', 'y', 'a', 'b']);
  assert.deepEqual(shape?.text_offset, [0, 1, 2, 3]);
  assert.equal(shape?.token_logprobs?.[0], null);
  assert.equal(shape?.top_logprobs?.[0], null);
  assert.deepEqual(Object.keys(shape?.top_logprobs?.[2] ?? {}), ['a', 'b']);
});

test('streamed log probabilities equal those of the whole', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = () => bytesOf('hé stop here');
  const openai = client(mesh);
  const params = { model: 'mock', prompt: 'x', logprobs: 1, max_tokens: 20, stop: ['stop'] };
  const whole = await openai.completions.create(params);
  const stream = await openai.completions.create({ ...params, stream: true });
  const tokens: string[] = [];
  const offsets: number[] = [];
  let text = '';
  for await (const chunk of stream) {
    text += chunk.choices[0]?.text ?? '';
    tokens.push(...(chunk.choices[0]?.logprobs?.tokens ?? []));
    offsets.push(...(chunk.choices[0]?.logprobs?.text_offset ?? []));
  }
  assert.equal(text, 'hé ');
  assert.deepEqual(
    [text, tokens, offsets],
    [whole.choices[0]?.text, whole.choices[0]?.logprobs?.tokens, whole.choices[0]?.logprobs?.text_offset],
  );
});

test('several choices and several prompts are numbered through', async (t) => {
  const mesh = await startMesh(t);
  mesh.engine.settings.script = (request, choice) =>
    bytesOf(`${String.fromCharCode(request.tokenIds[0] ?? 0)}${choice}`);
  const openai = client(mesh);
  const whole = await openai.completions.create({ model: 'mock', prompt: ['p', 'q'], n: 2, max_tokens: 4 });
  assert.deepEqual(
    whole.choices.map((c) => [c.index, c.text]),
    [
      [0, 'p0'],
      [1, 'p1'],
      [2, 'q0'],
      [3, 'q1'],
    ],
  );
  const stream = await openai.completions.create({
    model: 'mock',
    prompt: ['p', 'q'],
    n: 2,
    max_tokens: 4,
    stream: true,
  });
  const texts = ['', '', '', ''];
  for await (const chunk of stream) for (const choice of chunk.choices) texts[choice.index] += choice.text;
  assert.deepEqual(texts, ['p0', 'p1', 'q0', 'q1']);
  const ids = await openai.completions.create({ model: 'mock', prompt: [[0x7a], [0x79]], max_tokens: 4 });
  assert.deepEqual(
    ids.choices.map((c) => c.text),
    ['z0', 'y0'],
  );
  const one = await openai.completions.create({ model: 'mock', prompt: [0x7a, 0x79], max_tokens: 4 });
  assert.deepEqual(
    one.choices.map((c) => c.text),
    ['z0'],
  );
});

test('suffix fills in the middle', async (t) => {
  const mesh = await startMesh(t);
  await client(mesh).completions.create({ model: 'mock', prompt: 'a<|im_end|>', suffix: 'b', max_tokens: 4 });
  assert.deepEqual(mesh.engine.requests[0]?.tokenIds, [259, ...bytesOf('a<|im_end|>'), 260, 0x62, 261]);
  assert.deepEqual(mesh.engine.requests[0]?.sampling?.stopTokenIds, [EOS, 259]);
});

test('models', async (t) => {
  const mesh = await startMesh(t);
  const openai = client(mesh);
  const list = await all(await openai.models.list());
  assert.deepEqual(
    list.map((m) => [m.id, m.object, m.owned_by]),
    [['mock', 'model', 'quern']],
  );
  assert.equal((await openai.models.retrieve('mock')).id, 'mock');
  await assert.rejects(
    openai.models.retrieve('other'),
    (e: APIError) => e.status === 404 && e.code === 'model_not_found',
  );
});

test('errors reach the client with status, param and code', async (t) => {
  const mesh = await startMesh(t);
  const openai = client(mesh);
  const messages = [{ role: 'user' as const, content: 'x' }];
  await assert.rejects(
    openai.chat.completions.create({ model: 'other', messages }),
    (e: APIError) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found' && e.param === 'model',
  );
  await assert.rejects(
    openai.chat.completions.create({ model: 'mock', messages, temperature: 3 }),
    (e: APIError) =>
      e instanceof OpenAI.BadRequestError && e.param === 'temperature' && e.type === 'invalid_request_error',
  );
  await assert.rejects(
    openai.chat.completions.create({
      model: 'mock',
      messages: [...messages, { role: 'user', content: 5 as unknown as string }],
    }),
    (e: APIError) => e.status === 400 && e.param === 'messages[1].content',
  );
  await assert.rejects(
    openai.completions.create({ model: 'mock', prompt: 'x'.repeat(5000) }),
    (e: APIError) => e.status === 400 && e.code === 'context_length_exceeded',
  );
  await assert.rejects(
    openai.completions.create({ model: 'mock', prompt: 'x', stop: ['a', 'b', 'c', 'd', 'e'] }),
    (e: APIError) => e.status === 400 && e.param === 'stop',
  );
});

test('abort ends the request at the engine', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  const stream = await client(mesh).completions.create({ model: 'mock', prompt: 'x', max_tokens: 4000, stream: true });
  for await (const _ of stream) break;
  await eventually(() => mesh.engine.live === 0 && mesh.engine.cancels === 1, 'the engine heard the cancel');
  await eventually(() => mesh.gateway.context.admission.requests === 0, 'the ticket is back');
});
