// Tool calls and reasoning through both front doors, with a scripted model behind the real engine protocol.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { StreamChatResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import { corpus, type Expected, FILES, TOOLS } from '../../unit/gateway/tool-parsers/support/corpus.ts';
import { type MeshOptions, startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf, EOS } from './fakes/mock-tokenizer.ts';

const HERMES: MeshOptions['model'] = { toolParser: 'hermes', reasoningParser: 'think' };
const MESSAGES = [{ role: 'user' as const, content: 'How warm is it?' }];
const tools = TOOLS.map(({ name, parametersSchemaJson }) => ({
  type: 'function' as const,
  function: { name, parameters: JSON.parse(parametersSchemaJson) as Record<string, unknown> },
}));
const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": "3"}}\n</tool_call>';
const MADE = '{"city":"Zürich","days":3}';

const client = (mesh: TestMesh): OpenAI => new OpenAI({ baseURL: `${mesh.url}/v1`, apiKey: 'unused', maxRetries: 0 });

/** The mesh's model answers so, whatever it is asked. */
function says(mesh: TestMesh, text: string): void {
  mesh.engine.settings.script = () => [...bytesOf(text), EOS];
}

type Body = Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>;

const bodyOf = (more: Body = {}): OpenAI.ChatCompletionCreateParamsNonStreaming => ({
  model: 'mock',
  messages: MESSAGES,
  tools,
  ...more,
});

/** Whole, and streamed through the client's own helper. */
async function bothWays(mesh: TestMesh, more: Body = {}) {
  const openai = client(mesh);
  const whole = await openai.chat.completions.create(bodyOf(more));
  const stream = openai.chat.completions.stream({
    ...bodyOf(more),
    stream: true,
    stream_options: { include_usage: true },
  });
  // The helper keeps the last piece of a field that it does not know.
  let reasoning = '';
  stream.on('chunk', ({ choices }) => {
    reasoning += (choices[0]?.delta as { reasoning_content?: string } | undefined)?.reasoning_content ?? '';
  });
  const streamed = await stream.finalChatCompletion();
  for (const { message } of streamed.choices)
    if (reasoning !== '') Object.assign(message, { reasoning_content: reasoning });
  return { whole, streamed };
}

type Shown = OpenAI.ChatCompletionMessage & { reasoning_content?: string; invalid_tool_calls?: object[] };

test('calls, whole and streamed, one token per step and many', async (t) => {
  for (const tokensPerStep of [1, 9, 1000]) {
    const mesh = await startMesh(t, { model: HERMES, engine: { tokensPerStep, stepMs: 0 } });
    says(mesh, `<think>\nHm.\n</think>\n\nLet me look.\n${CALL}\n<tool_call>{"name": "now"}</tool_call>\n`);
    const { whole, streamed } = await bothWays(mesh);
    for (const { choices, usage } of [whole, streamed]) {
      const { message, finish_reason: reason } = choices[0]!;
      assert.equal(reason, 'tool_calls');
      assert.equal(message.content, 'Let me look.\n');
      assert.equal((message as Shown).reasoning_content, 'Hm.');
      const calls = (message.tool_calls ?? []) as OpenAI.ChatCompletionMessageFunctionToolCall[];
      assert.deepEqual(
        calls.map(({ type, function: fn }) => [type, fn.name, fn.arguments]),
        [
          ['function', 'get_weather', MADE],
          ['function', 'now', '{}'],
        ],
      );
      for (const { id } of calls) assert.match(id, /^call_[0-9a-f]{24}$/);
      assert.notEqual(calls[0]?.id, calls[1]?.id);
      // Of an open tag that is spelled in several tokens the last one counts.
      assert.equal(usage?.completion_tokens_details?.reasoning_tokens, '>\nHm.\n</think>'.length);
    }
  }
});

test("the chunks have OpenAI's shape", async (t) => {
  const mesh = await startMesh(t, { model: HERMES });
  says(mesh, `<think>a</think>${CALL}`);
  const stream = await client(mesh).chat.completions.create({ ...bodyOf(), stream: true });
  const deltas: Record<string, unknown>[] = [];
  const reasons: (string | null | undefined)[] = [];
  for await (const { choices } of stream) {
    deltas.push(choices[0]?.delta as Record<string, unknown>);
    reasons.push(choices[0]?.finish_reason);
  }
  assert.deepEqual(deltas[0], { role: 'assistant', content: null });
  assert.deepEqual(deltas[1], { reasoning_content: 'a' });
  const calls = deltas.flatMap((delta) => (delta.tool_calls as Record<string, unknown>[] | undefined) ?? []);
  const [first, ...rest] = calls as [{ id: string }, ...{ function: { arguments: string } }[]];
  assert.deepEqual(first, {
    index: 0,
    id: first.id,
    type: 'function',
    function: { name: 'get_weather', arguments: '' },
  });
  for (const piece of rest) {
    assert.deepEqual(Object.keys(piece), ['index', 'function']);
    assert.deepEqual(Object.keys(piece.function), ['arguments']);
  }
  assert(rest.length > 5, 'arguments come in pieces');
  assert.equal(rest.map((piece) => piece.function.arguments).join(''), MADE);
  assert.deepEqual(reasons.filter(Boolean), ['tool_calls']);
  assert.deepEqual(deltas.at(-1), {});
});

test('every fixture of the corpus comes out of the HTTP door as it should, streamed and whole', async (t) => {
  const contentOf = (parts: Expected[]): string =>
    parts.map((part) => ('text' in part ? part.text : 'invalid' in part ? part.invalid : '')).join('');
  const formats = corpus.filter(({ format }) => ['hermes', 'qwen3-coder'].includes(format));
  for (const { format, cases } of formats) {
    const model = { toolParser: FILES[format]!, reasoningParser: 'think' };
    const mesh = await startMesh(t, { model, engine: { tokensPerStep: 5, stepMs: 0 } });
    for (const { name, output, expected, starts_inside: inside } of cases) {
      if (inside) continue;
      says(mesh, output);
      const { whole, streamed } = await bothWays(mesh);
      const calls = expected.flatMap((part) => ('call' in part ? [part.call] : []));
      const begun = expected.some((part) => 'invalid' in part && part.started);
      for (const { choices } of begun ? [whole] : [whole, streamed]) {
        const { message } = choices[0]!;
        assert.equal(message.content ?? '', contentOf(expected), name);
        const got = (message.tool_calls ?? []) as OpenAI.ChatCompletionMessageFunctionToolCall[];
        assert.deepEqual(
          got.map(({ function: fn }) => ({ name: fn.name, arguments: fn.arguments })),
          calls,
          name,
        );
      }
      assert.equal(streamed.choices[0]?.message.content ?? '', contentOf(expected), name);
    }
  }
});

test('a call that is cut off is content with a flag, and the reason is length', async (t) => {
  const mesh = await startMesh(t, { model: HERMES });
  const text = CALL.slice(0, CALL.indexOf('rich'));
  says(mesh, CALL);
  const body = bodyOf({ max_tokens: Buffer.byteLength(text) });
  const whole = await client(mesh).chat.completions.create(body);
  const { message, finish_reason: reason } = whole.choices[0]!;
  assert.equal(reason, 'length');
  assert.equal(message.content, text);
  assert.equal(message.tool_calls, undefined);
  assert.deepEqual((message as Shown).invalid_tool_calls, [{ index: 0, text, reason: 'it is cut off' }]);
  const flags: unknown[] = [];
  for await (const { choices } of await client(mesh).chat.completions.create({ ...body, stream: true })) {
    const delta = choices[0]?.delta as { invalid_tool_call?: unknown; content?: string };
    if (delta.invalid_tool_call) flags.push([delta.content, delta.invalid_tool_call]);
  }
  assert.deepEqual(flags, [[text, { index: 0, reason: 'it is cut off' }]]);
  const metrics = await (await fetch(`${mesh.url}/metrics`)).text();
  assert.match(metrics, /quern_gateway_tool_calls_total\{model="mock",outcome="invalid",[^}]*\} 2/);
});

test('tool_choice and parallel_tool_calls', async (t) => {
  const mesh = await startMesh(t, { model: HERMES });
  says(mesh, `${CALL}\n${CALL}`);
  const openai = client(mesh);
  const none = await openai.chat.completions.create(bodyOf({ tool_choice: 'none' }));
  assert.equal(none.choices[0]?.message.content, `${CALL}\n${CALL}`);
  assert.equal(none.choices[0]?.finish_reason, 'stop');
  assert.equal(mesh.engine.requests.at(-1)?.tokenIds.includes('['.charCodeAt(0)), false, 'no tools in the prompt');
  const one = await bothWays(mesh, { tool_choice: 'auto', parallel_tool_calls: false });
  for (const { choices } of [one.whole, one.streamed]) assert.equal(choices[0]?.message.tool_calls?.length, 1);
  for (const tool_choice of ['required', { type: 'function', function: { name: 'now' } }] as const) {
    await assert.rejects(openai.chat.completions.create(bodyOf({ tool_choice })), {
      status: 400,
      message: /tool_choice: expected "auto" or "none"; a forced tool call needs constrained output/,
    });
  }
});

test('stop strings match neither in reasoning nor in arguments', async (t) => {
  const mesh = await startMesh(t, { model: HERMES });
  says(mesh, `<think>Zürich</think>${CALL} It is Zürich.`);
  const { whole, streamed } = await bothWays(mesh, { stop: ['Zürich'] });
  for (const { choices } of [whole, streamed]) {
    const { message, finish_reason: reason } = choices[0]!;
    assert.equal(message.content, ' It is ');
    assert.equal(message.tool_calls?.length, 1);
    assert.equal(reason, 'tool_calls');
  }
});

test('a prompt that opens the reasoning, reasoning without tools', async (t) => {
  const mesh = await startMesh(t, { model: HERMES });
  says(mesh, 'Hm.\n</think>\n\nWarm.');
  const body = { model: 'mock', messages: MESSAGES, chat_template_kwargs: { enable_thinking: true } };
  const { choices } = await client(mesh).chat.completions.create(body);
  const { reasoning_content: reasoning, content } = choices[0]!.message as Shown;
  assert.deepEqual([reasoning, content], ['Hm.', 'Warm.']);
});

test('a turn with calls, broken ones too, and their results goes on', async (t) => {
  const mesh = await startMesh(t, { model: HERMES });
  says(mesh, 'Warm.');
  const call = (id: string, name: string, args: string) => ({
    id,
    type: 'function' as const,
    function: { name, arguments: args },
  });
  const { choices } = await client(mesh).chat.completions.create(
    bodyOf({
      messages: [
        ...MESSAGES,
        {
          role: 'assistant',
          content: null,
          tool_calls: [call('a', 'get_weather', '{"city": "Zür'), call('b', 'made up: name', 'nothing')],
        },
        { role: 'tool', tool_call_id: 'a', content: 'It is broken.' },
        { role: 'tool', tool_call_id: 'b', content: [{ type: 'text', text: 'No such tool.' }] },
      ],
    }),
  );
  assert.equal(choices[0]?.message.content, 'Warm.');
});

function grpcRequest(mesh: TestMesh) {
  const message = { role: Role.ROLE_USER, content: 'x', reasoningContent: '', name: '', toolCalls: [], toolCallId: '' };
  const definitions = TOOLS.map((tool) => ({ ...tool, description: '', strict: false }));
  const request = {
    model: 'mock',
    messages: [message],
    tools: definitions,
    sampling: undefined,
    stop: [],
    options: undefined,
    templateVariables: undefined,
  };
  return { request, options: { signal: AbortSignal.timeout(10_000), timeoutMs: 10_000 }, chat: mesh.chat };
}

test('gRPC: typed deltas, and the whole answer', async (t) => {
  const mesh = await startMesh(t, { model: HERMES });
  says(mesh, `<think>Hm.</think>So:\n${CALL}<tool_call>{"name": x`);
  const { request, options, chat } = grpcRequest(mesh);
  const got = {
    reasoning: '',
    text: '',
    args: '',
    started: [] as object[],
    ended: [] as string[],
    invalid: [] as object[],
  };
  let end: Extract<StreamChatResponse['event'], { $case: 'end' }> | undefined;
  for await (const { event } of serverStream(chat, 'streamChat', { request }, options)) {
    if (event?.$case === 'reasoning') got.reasoning += event.value.text;
    else if (event?.$case === 'delta') got.text += event.value.text;
    else if (event?.$case === 'end') end = event;
    else if (event?.$case === 'toolCall') {
      const { part } = event.value;
      if (part?.$case === 'started') got.started.push({ name: part.value.name, callIndex: part.value.callIndex });
      else if (part?.$case === 'arguments') got.args += part.value.text;
      else if (part?.$case === 'ended') got.ended.push(part.value.argumentsJson);
      else if (part?.$case === 'invalid') got.invalid.push(part.value);
    }
  }
  const invalid = { text: '<tool_call>{"name": x', reason: 'it is cut off' };
  assert.deepEqual(got, {
    reasoning: 'Hm.',
    text: 'So:\n',
    args: MADE,
    started: [{ name: 'get_weather', callIndex: 0 }],
    ended: [MADE],
    invalid: [{ ...invalid, callIndex: undefined }],
  });
  assert.equal(end?.value.reasoningTokens, '>Hm.</think>'.length);
  const { choices } = await unary(chat, 'chat', request, options);
  const [choice] = choices;
  assert.equal(choice?.reasoningContent, 'Hm.');
  assert.equal(choice?.content, `So:\n${invalid.text}`);
  assert.deepEqual(
    choice?.toolCalls.map(({ name, argumentsJson }) => [name, argumentsJson]),
    [['get_weather', MADE]],
  );
  assert.deepEqual(choice?.invalidToolCalls, [{ ...invalid, callIndex: undefined }]);
  assert.equal(choice?.finishReason, FinishReason.FINISH_REASON_STOP);
});

test('a model says which formats it is read in; an engine that is lost in a call changes nothing', async (t) => {
  const mesh = await startMesh(t, { model: HERMES, engine: { stepMs: 3 } });
  const { data } = await client(mesh).models.list();
  const { quern } = data[0] as unknown as { quern: Record<string, unknown> };
  assert.deepEqual([quern.tool_parser, quern.reasoning_parser], ['hermes', 'think']);
  says(mesh, CALL);
  const stream = client(mesh).chat.completions.stream({ ...bodyOf(), stream: true });
  let isBroken = false;
  stream.on('tool_calls.function.arguments.delta', () => {
    if (!isBroken) mesh.engine.breakSessions();
    isBroken = true;
  });
  const { choices } = await stream.finalChatCompletion();
  const [call] = (choices[0]?.message.tool_calls ?? []) as OpenAI.ChatCompletionMessageFunctionToolCall[];
  assert.equal(call?.function.arguments, MADE);
  assert(isBroken && mesh.engine.requests.length === 2, String(mesh.engine.requests.length));
});
