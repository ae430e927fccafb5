// Agent runs over HTTP: chat with tools that run on the server, and POST /invoke.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { Outcome } from '#gen/quern/tools/v1/tools.ts';
import { hermes, type Model, messagesOf, startAgentMesh } from './fakes/agent-mesh.ts';
import { fakeTool, toolResult, untilAborted } from './fakes/fake-tools.ts';
import { eventually } from './fakes/mesh.ts';

const looking: Model = (prompt) =>
  messagesOf(prompt).some(([role]) => role === 'tool')
    ? '<think>good</think>It is 42.'
    : `Let me look.\n${hermes('f', { q: 'x' })}`;

const messages = [{ role: 'user', content: 'what is it?' }];
const server = { messages, tool_execution: 'server' };

type Chunk = {
  choices: { delta: { content?: string; reasoning_content?: string }; finish_reason: string | null }[];
  usage?: { total_tokens: number } | null;
  run?: { outcome: string; turns: number; calls: number };
};

async function chunksOf(response: Response): Promise<Chunk[]> {
  const events = (await response.text()).split('\n\n').filter((event) => event !== '');
  assert.equal(events.at(-1), 'data: [DONE]');
  return events.slice(0, -1).map((event) => JSON.parse(event.slice('data: '.length)) as Chunk);
}

test('chat with tools on the server: one answer, the same streamed and whole', async (t) => {
  const { mesh, tools } = await startAgentMesh(t, { model: looking });
  const post = (body: object): Promise<Response> =>
    fetch(`${mesh.url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(body) });
  const whole = (await (await post({ ...server, session_id: 'talk-1' })).json()) as {
    object: string;
    choices: { message: { content: string; reasoning_content: string; tool_calls?: unknown }; finish_reason: string }[];
    usage: { total_tokens: number };
    run: { outcome: string; turns: number; calls: number };
  };
  const [choice] = whole.choices;
  assert.deepEqual(
    [whole.object, choice?.message.content, choice?.finish_reason],
    ['chat.completion', 'Let me look.\n\nIt is 42.', 'stop'],
  );
  assert.equal(choice?.message.reasoning_content, 'good');
  assert.equal(choice?.message.tool_calls, undefined);
  assert.deepEqual([whole.run.outcome, whole.run.turns, whole.run.calls], ['answered', 2, 1]);
  const response = await post({ ...server, stream: true, stream_options: { include_usage: true } });
  assert.match(response.headers.get('content-type') ?? '', /event-stream/);
  const chunks = await chunksOf(response);
  const text = (key: 'content' | 'reasoning_content'): string =>
    chunks.map(({ choices }) => choices[0]?.delta[key] ?? '').join('');
  assert.equal(text('content'), choice?.message.content);
  assert.equal(text('reasoning_content'), 'good');
  assert.equal(chunks.at(-1)?.usage?.total_tokens, whole.usage.total_tokens);
  assert.deepEqual([chunks.at(-2)?.choices[0]?.finish_reason, chunks.at(-2)?.run?.calls], ['stop', 1]);
  assert.equal(tools.requests[0]?.caller?.sessionId, 'talk-1');
  assert.deepEqual(
    tools.requests.map(({ argumentsJson }) => argumentsJson),
    ['{"q":"x"}', '{"q":"x"}'],
  );
});

test('only the tools that are named are offered; what a run has no place for is refused', async (t) => {
  const { mesh } = await startAgentMesh(t, { model: looking });
  const post = async (body: object): Promise<[number, string]> => {
    const response = await fetch(`${mesh.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ ...server, ...body }),
    });
    const { error } = (await response.json()) as { error?: { param: string } };
    return [response.status, error?.param ?? ''];
  };
  const tool = (name: string): object => ({ type: 'function', function: { name } });
  assert.deepEqual(await post({ tools: [tool('f')] }), [200, '']);
  assert.deepEqual(await post({ tools: [tool('unknown')] }), [400, 'tools']);
  assert.deepEqual(await post({ stop: ['x'] }), [400, 'stop']);
  assert.deepEqual(await post({ n: 2 }), [400, 'sampling.n']);
  assert.deepEqual(await post({ tool_execution: 'elsewhere' }), [400, 'tool_execution']);
  assert.deepEqual(await post({ chat_template_kwargs: { enable_thinking: true } }), [400, 'chat_template_kwargs']);
  assert.deepEqual(await post({ tool_choice: 'none' }), [200, '']); // then it is a chat like any other
  const prompts = mesh.engine.requests.map(({ tokenIds }) => Buffer.from(tokenIds.filter((id) => id < 256)).toString());
  assert.match(prompts[0] ?? '', /^\["f"\]/);
  assert.match(prompts.at(-1) ?? '', /^user/);
});

test('a client that goes away ends the run', async (t) => {
  const { mesh, tools } = await startAgentMesh(t, { model: looking, play: (_, call) => untilAborted(call) });
  for (const stream of [true, false]) {
    const stop = new AbortController();
    const body = JSON.stringify({ ...server, stream });
    const asked = fetch(`${mesh.url}/v1/chat/completions`, { method: 'POST', body, signal: stop.signal }).then(
      (response) => response.text(),
    );
    asked.catch(() => {});
    await eventually(() => tools.running === 1, 'the tool runs');
    stop.abort();
    await eventually(() => tools.running === 0 && mesh.gateway.context.requests.size === 0, 'the run has ended');
  }
});

test('a time limit and a bound in the answer', async (t) => {
  const always: Model = () => `more ${hermes('f', {})}`;
  const { mesh } = await startAgentMesh(t, {
    model: always,
    play: async (_, call) => (waits ? untilAborted(call) : toolResult('x')),
  });
  let waits = false;
  const bounded = await fetch(`${mesh.url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(server) });
  const answer = (await bounded.json()) as {
    choices: { finish_reason: string }[];
    run: { outcome: string; limit: string };
  };
  assert.deepEqual(
    [answer.choices[0]?.finish_reason, answer.run.outcome, answer.run.limit],
    ['length', 'limit', 'turns'],
  );
  waits = true;
  const late = await fetch(`${mesh.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify(server),
    headers: { 'x-request-timeout-ms': '150' },
  });
  assert.equal(late.status, 504);
});

const plan = JSON.stringify({
  steps: [
    { id: 'a', tool: 'f', arguments: { n: 1 } },
    { id: 'b', tool: 'g', arguments: { of: `\${steps.a.content}` } },
    { id: 'c', tool: 'broken', arguments: {} },
    { id: 'd', tool: 'f', arguments: {}, after: ['c'] },
  ],
});
const planner: Model = (prompt) =>
  messagesOf(prompt).at(-1)?.[1].startsWith('The plan has run') ? 'The sum is 3.' : plan;

test('POST /invoke answers the plan and what came of each step', async (t) => {
  const { mesh } = await startAgentMesh(t, {
    model: planner,
    tools: ['f', 'g', 'broken'].map((name) => fakeTool(name)),
    play: async ({ tool, argumentsJson }) =>
      tool === 'broken'
        ? toolResult('', { outcome: Outcome.OUTCOME_INVALID_ARGS, message: 'n is missing' })
        : toolResult(`${tool} of ${argumentsJson}`),
  });
  const response = await fetch(`${mesh.url}/invoke`, {
    method: 'POST',
    body: JSON.stringify({ query: 'add up', tools: ['f', 'g', 'broken'] }),
  });
  assert.equal(response.status, 200);
  const {
    plan: steps,
    results,
    answer,
    run,
    usage,
  } = (await response.json()) as {
    plan: { id: string; arguments: object; after: string[] }[];
    results: {
      id: string;
      state: string;
      outcome: string | null;
      content: string;
      attempts: number;
      message: string;
    }[];
    answer: string;
    run: { id: string; outcome: string; turns: number; calls: number };
    usage: { total_tokens: number };
  };
  assert.deepEqual(
    steps.map(({ id, after }) => [id, after]),
    [
      ['a', []],
      ['b', ['a']],
      ['c', []],
      ['d', ['c']],
    ],
  );
  assert.deepEqual(
    results.map(({ id, state, outcome, attempts }) => [id, state, outcome, attempts]),
    [
      ['a', 'done', 'OK', 1],
      ['b', 'done', 'OK', 1],
      ['c', 'failed', 'INVALID_ARGS', 1],
      ['d', 'skipped', null, 0],
    ],
  );
  assert.equal(results[1]?.content, 'g of {"of":"f of {\\"n\\":1}"}');
  assert.deepEqual([answer, run.outcome, run.turns, run.calls], ['The sum is 3.', 'answered', 2, 3]);
  assert.equal(response.headers.get('x-request-id'), run.id);
  assert.ok(usage.total_tokens > 0);
});

test('/invoke: bad bodies, and a model that cannot plan', async (t) => {
  const { mesh } = await startAgentMesh(t, { model: () => 'I would rather talk.' });
  const post = (body: unknown): Promise<Response> =>
    fetch(`${mesh.url}/invoke`, { method: 'POST', body: JSON.stringify(body) });
  for (const body of [
    {},
    { query: '' },
    { query: 1 },
    { query: 'x', tools: 'f' },
    { query: 'x', stop: 'y' },
    { query: 'x', limits: { speed: 1 } },
    { query: 'x', limits: { turns: 99 } },
  ]) {
    assert.equal((await post(body)).status, 400, JSON.stringify(body));
  }
  const answer = (await (await post({ query: 'x' })).json()) as {
    plan: [];
    results: [];
    run: { outcome: string };
    answer: string;
  };
  assert.deepEqual(
    [answer.plan, answer.results, answer.run.outcome, answer.answer],
    [[], [], 'plan_invalid', 'I would rather talk.'],
  );
});

test('/invoke: of all tools those that leave room in the context; named ones that do not are told apart from the text', async (t) => {
  const tools = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => fakeTool(name, { description: 'x'.repeat(300) }));
  const model: Model = () => 'I would rather talk.';
  const { mesh } = await startAgentMesh(t, { model, tools, mesh: { engine: { contextLength: 3000 } } });
  const post = async (path: string, body: object) => {
    const response = await fetch(`${mesh.url}${path}`, { method: 'POST', body: JSON.stringify(body) });
    const answer = (await response.json()) as {
      run?: { outcome: string; tools: string[] };
      error?: { param: string; code: string; message: string };
    };
    return { ...answer, status: response.status };
  };
  const fitting = await post('/invoke', { query: 'x', tools: [] });
  assert.deepEqual([fitting.status, fitting.run?.outcome], [200, 'plan_invalid']);
  assert.deepEqual(fitting.run?.tools, ['a', 'b', 'c']);
  const named = await post('/invoke', { query: 'x', tools: tools.map(({ name }) => name) });
  assert.deepEqual([named.status, named.error?.param, named.error?.code], [400, 'tools', 'context_length_exceeded']);
  assert.match(
    named.error?.message ?? '',
    /but the request has \d{4} in the prompt; the definitions of its 6 tools take about 2\d{3} of the 3000: name fewer in "tools"/,
  );
  const long = await post('/invoke', { query: 'x'.repeat(3000), tools: ['a'] });
  assert.equal(long.error?.param, 'messages');
  const functions = tools.slice(0, 4).map(({ name, description }) => ({ name, description }));
  const client = await post('/v1/chat/completions', {
    messages: [{ role: 'user', content: 'y'.repeat(3000) }],
    tools: functions.map((one) => ({ type: 'function', function: one })),
  });
  assert.deepEqual([client.status, client.error?.param], [400, 'tools']);
});

test('without the tool service an answer says so in a sentence', async (t) => {
  const { mesh } = await startAgentMesh(t, { model: looking, toolsAddress: 'unix:///nowhere/tools.sock' });
  for (const [path, body] of [
    ['/v1/chat/completions', server],
    ['/invoke', { query: 'x' }],
  ] as const) {
    const response = await fetch(`${mesh.url}${path}`, { method: 'POST', body: JSON.stringify(body) });
    const { error } = (await response.json()) as { error: { message: string; code: string } };
    assert.deepEqual([response.status, error.code], [503, 'tools_unavailable']);
    assert.match(error.message, /^the tool service does not answer now; try again/);
  }
});

test('/health says how the tool service is, and is well without it', async (t) => {
  const { mesh, tools } = await startAgentMesh(t, { model: looking });
  const told = async (): Promise<{ status: number; tools: unknown }> => {
    const response = await fetch(`${mesh.url}/health`);
    return { status: response.status, tools: ((await response.json()) as { tools: unknown }).tools };
  };
  const is = (state: string, tier: string | null) => async (): Promise<boolean> =>
    isDeepStrictEqual(await told(), { status: 200, tools: { state, tier } });
  await eventually(is('ok', 'A'), 'it answers');
  await tools.close();
  await eventually(is('unreachable', null), 'it is gone');
});
