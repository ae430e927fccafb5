/** The official OpenAI client for Node, unmodified, against a real mesh with quern-mini. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import OpenAI, { type APIError } from 'openai';
import type { GetLoadResponse } from '#gen/quern/engine/v1/engine.ts';
import { until, watchEngine } from './engine-watch.ts';
import { type Mesh, startMesh } from './mesh.ts';

const MODEL = 'quern-mini';
const FREED_WITHIN_MS = 30_000;
const PROMPT = 'def add(a, b):\n    return';
const MESSAGES = [
  { role: 'system' as const, content: 'Answer with code.' },
  { role: 'user' as const, content: 'A loop over a list in Python.' },
];

function client({ http }: Mesh): OpenAI {
  return new OpenAI({ baseURL: `http://${http}/v1`, apiKey: 'unused', maxRetries: 0 });
}

async function checkCompletions(openai: OpenAI): Promise<void> {
  const asked = { model: MODEL, prompt: PROMPT, max_tokens: 16, temperature: 0 };
  const whole = await openai.completions.create(asked);
  assert.equal(whole.object, 'text_completion');
  assert.equal(whole.model, MODEL);
  assert.equal(whole.choices.length, 1);
  const [choice] = whole.choices;
  assert.ok(choice !== undefined && choice.text.length > 0);
  assert.ok(['stop', 'length'].includes(choice.finish_reason), choice.finish_reason);
  const { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total } = whole.usage ?? {};
  assert.ok(prompt !== undefined && prompt > 5 && completion !== undefined && completion > 0);
  assert.equal(total, prompt + completion);

  let text = '';
  const reasons: string[] = [];
  const usages: number[] = [];
  const stream = await openai.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.text ?? '';
    if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
    if (chunk.usage) usages.push(chunk.usage.completion_tokens);
  }
  assert.equal(text, choice.text);
  assert.deepEqual(reasons, [choice.finish_reason]);
  assert.deepEqual(usages, [completion]);

  const seeded = { model: MODEL, prompt: 'import ', max_tokens: 12, temperature: 1, seed: 5, n: 2, logprobs: 2 };
  const once = await openai.completions.create(seeded);
  const again = await openai.completions.create(seeded);
  assert.equal(once.choices.length, 2);
  assert.notEqual(once.choices[0]?.text, once.choices[1]?.text);
  assert.deepEqual(
    again.choices.map((one) => one.text),
    once.choices.map((one) => one.text),
  );
  const logprobs = once.choices[0]?.logprobs?.token_logprobs ?? [];
  assert.ok(logprobs.length > 0 && logprobs.every((value) => value !== null && value <= 0), String(logprobs));
}

async function checkInfill(openai: OpenAI): Promise<void> {
  const asked = { model: MODEL, prompt: 'def area(width, height):\n    return ', max_tokens: 24, temperature: 0 };
  const filled = await openai.completions.create({ ...asked, suffix: '\n\nprint(area(2, 3))\n' });
  const plain = await openai.completions.create(asked);
  const text = filled.choices[0]?.text ?? '';
  assert.ok(text.length > 0);
  assert.notEqual(text, plain.choices[0]?.text, 'the suffix changes nothing');
  assert.doesNotMatch(text, /<\|fim_/, 'a mark of the infill format leaked');
  let streamed = '';
  const stream = await openai.completions.create({ ...asked, suffix: '\n\nprint(area(2, 3))\n', stream: true });
  for await (const chunk of stream) streamed += chunk.choices[0]?.text ?? '';
  assert.equal(streamed, text);
}

async function checkChat(openai: OpenAI): Promise<void> {
  const asked = { model: MODEL, messages: MESSAGES, max_tokens: 24, temperature: 0 };
  const whole = await openai.chat.completions.create(asked);
  assert.equal(whole.object, 'chat.completion');
  const [choice] = whole.choices;
  assert.equal(choice?.message.role, 'assistant');
  assert.ok((choice?.message.content ?? '').length > 0);
  assert.doesNotMatch(choice?.message.content ?? '', /<\|im_/);

  const chunks = [];
  const how = { stream: true as const, stream_options: { include_usage: true } };
  for await (const chunk of await openai.chat.completions.create({ ...asked, ...how })) chunks.push(chunk);
  assert.equal(chunks[0]?.choices[0]?.delta.role, 'assistant');
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), choice?.message.content);
  const reasons = chunks.flatMap((chunk) => chunk.choices.flatMap((one) => one.finish_reason ?? []));
  assert.deepEqual(reasons, [choice?.finish_reason]);
  assert.deepEqual(chunks.at(-1)?.choices, []);
  const { cached_tokens: _, ...details } = chunks.at(-1)?.usage?.prompt_tokens_details ?? {};
  assert.deepEqual(details, {});
  assert.equal(chunks.at(-1)?.usage?.prompt_tokens, whole.usage?.prompt_tokens);
  assert.equal(chunks.at(-1)?.usage?.completion_tokens, whole.usage?.completion_tokens);

  const final = await openai.chat.completions.stream(asked).finalChatCompletion();
  assert.equal(final.choices[0]?.message.content, choice?.message.content);
}

async function checkModels(openai: OpenAI): Promise<void> {
  const names: string[] = [];
  for await (const model of openai.models.list()) names.push(model.id);
  assert.deepEqual(names, [MODEL]);
  const model = await openai.models.retrieve(MODEL);
  assert.equal(model.object, 'model');
}

async function checkErrors(openai: OpenAI): Promise<void> {
  const messages = [{ role: 'user' as const, content: 'x' }];
  await assert.rejects(
    openai.chat.completions.create({ model: 'gpt-4', messages }),
    (e: APIError) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found' && e.param === 'model',
  );
  await assert.rejects(
    openai.models.retrieve('gpt-4'),
    (e: APIError) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found',
  );
  await assert.rejects(
    openai.completions.create({ model: MODEL, prompt: 'x', temperature: 3 }),
    (e: APIError) =>
      e instanceof OpenAI.BadRequestError && e.param === 'temperature' && e.type === 'invalid_request_error',
  );
  const nested = [...messages, { role: 'user' as const, content: 5 as unknown as string }];
  await assert.rejects(
    openai.chat.completions.create({ model: MODEL, messages: nested }),
    (e: APIError) => e instanceof OpenAI.BadRequestError && e.param === 'messages[1].content',
  );
  await assert.rejects(
    openai.completions.create({ model: MODEL, prompt: [5, 9_999_999] }),
    (e: APIError) => e instanceof OpenAI.BadRequestError && e.param === 'prompt[1]',
  );
  const tooLong = (e: APIError): boolean =>
    e instanceof OpenAI.BadRequestError && e.code === 'context_length_exceeded' && /2048 tokens/.test(e.message);
  await assert.rejects(openai.completions.create({ model: MODEL, prompt: 'x, '.repeat(3_000) }), tooLong);
  const long = [{ role: 'user' as const, content: 'x, '.repeat(3_000) }];
  await assert.rejects(openai.chat.completions.create({ model: MODEL, messages: long, stream: true }), tooLong);
}

async function checkAbort(t: TestContext, openai: OpenAI, mesh: Mesh): Promise<void> {
  const load = watchEngine(t, mesh);
  const leave = [
    (stream: { controller: AbortController }): void => stream.controller.abort(),
    (): void => {}, // leaving the loop is enough
  ];
  for (const [i, go] of leave.entries()) {
    const many = { model: MODEL, max_tokens: 1_500, temperature: 0, ignore_eos: true, stream: true as const };
    const stream =
      i === 0
        ? await openai.completions.create({ ...many, prompt: PROMPT })
        : await openai.chat.completions.create({ ...many, messages: MESSAGES });
    let chunks = 0;
    let before: GetLoadResponse | undefined;
    for await (const _ of stream) {
      chunks += 1;
      if (chunks < 5) continue;
      before = await load();
      assert.equal(before.running, 1);
      go(stream);
      break;
    }
    const freed = await until(load, ({ running, waiting }) => running + waiting === 0, FREED_WITHIN_MS);
    assert.ok(before !== undefined && freed.steps - before.steps < 1_400n, 'it ran to its own end');
    assert.equal(freed.freeBlocks, freed.numBlocks, 'blocks are still held');
    assert.ok(chunks >= 5);
  }
}

test('the OpenAI client completes, infills, chats, lists, reads errors and aborts', async (t) => {
  const mesh = await startMesh(t);
  const openai = client(mesh);
  await t.test('completions, whole and streamed', () => checkCompletions(openai));
  await t.test('suffix fills in the middle', () => checkInfill(openai));
  await t.test('chat, whole and streamed', () => checkChat(openai));
  await t.test('models', () => checkModels(openai));
  await t.test('errors have their class, param and code', () => checkErrors(openai));
  await t.test('an abort in the middle of a stream frees the slot', (inner) => checkAbort(inner, openai, mesh));
  assert.equal(await mesh.stop(), 0);
});
