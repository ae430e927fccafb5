// Runs below runs: five levels, the same each time; and runs that a tool starts through the API.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AgentServiceClient, RunOutcome, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import type { QuernError } from '#kit/errors.ts';
import { createKey } from '#kit/keys-file.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { valuesOf } from '../../unit/gateway/agent/scripted.ts';
import { hermes, type Model, messagesOf, runRequest, startAgentMesh, user } from './fakes/agent-mesh.ts';
import { fakeTool, toolResult, untilAborted } from './fakes/fake-tools.ts';
import { eventually } from './fakes/mesh.ts';

const end = (events: readonly RunResponse[]) => valuesOf(events, 'ended').at(-1);
const LEVELS = 5;
const CALLS = 3;
const REPEATS = 10;
/** Wanted are 2 s, which the diagnostics tell; a test only finds what hangs or takes many times as long. */
const TOO_LONG_MS = 20_000;

/** Each level makes three calls at once, one of them a nested run until the deepest; then it answers. */
const nested: Model = (prompt) => {
  const messages = messagesOf(prompt);
  const level = Number(/level (\d)/.exec(messages.find(([role]) => role === 'user')?.[1] ?? '')?.[1]);
  const results = messages.filter(([role]) => role === 'tool').map(([, text]) => text);
  if (results.length > 0) return `L${level}(${results.join(' ')})`;
  const below = level < LEVELS ? hermes('agent', { task: `level ${level + 1}` }) : hermes('f', { z: 0 });
  return `${hermes('f', { level, x: 1 })}\n${hermes('g', { level, y: 2 })}\n${below}`;
};

/** Everything but times and ids of this one run; of each level in its order. */
function essence(events: readonly RunResponse[]): Record<string, unknown[]> {
  const levels: Record<string, unknown[]> = {};
  for (const { path, event } of events) {
    const { runId: _, wallNs: _w, runNs: _r, ...value } = { runId: '', wallNs: 0n, runNs: 0n, ...event?.value };
    levels[path] = [...(levels[path] ?? []), [event?.$case, value]];
  }
  // Calls of one turn run at the same time: which of them ends first is nobody's promise, and text may come in other pieces.
  for (const [path, list] of Object.entries(levels)) {
    const ordered = list as [string, { callId?: string; content?: string }][];
    const said = ordered
      .filter(([kind]) => kind === 'delta')
      .map(([, value]) => value.content)
      .join('');
    const rest = ordered.filter(([kind]) => kind !== 'delta' && kind !== 'callEnded');
    const ended = ordered
      .filter(([kind]) => kind === 'callEnded')
      .toSorted(([, a], [, b]) => ((a.callId ?? '') < (b.callId ?? '') ? -1 : 1));
    levels[path] = [said, ...rest, ...ended];
  }
  return levels;
}

const p95 = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.ceil(values.length * 0.95) - 1] as number;

test(`${LEVELS} nested levels with ${CALLS} calls each end, ten times the same`, async (t) => {
  const { run, tools, mesh } = await startAgentMesh(t, { model: nested, tokensPerStep: 64 });
  let first: string | null = null;
  const once = async (): Promise<number> => {
    const startedMs = performance.now();
    const events = await run({ messages: [user('level 0')], limits: { depth: LEVELS } });
    const tookMs = performance.now() - startedMs;
    const ended = end(events);
    assert.deepEqual(
      [ended?.outcome, ended?.turns, ended?.calls],
      [RunOutcome.RUN_OUTCOME_ANSWERED, 2 * (LEVELS + 1), CALLS * (LEVELS + 1)],
    );
    assert.deepEqual(
      events.map(({ sequence }) => Number(sequence)),
      events.map((_, at) => at + 1),
    );
    const text = JSON.stringify(essence(events), (_, value) => (typeof value === 'bigint' ? Number(value) : value));
    first ??= text;
    assert.equal(text, first);
    return tookMs;
  };
  await once();
  const cpu = process.cpuUsage();
  const ms: number[] = [];
  for (let i = 0; i < REPEATS; i += 1) ms.push(await once());
  const { user: own, system } = process.cpuUsage(cpu);
  t.diagnostic(`p95 ${Math.round(p95(ms))} ms; ${Math.round((own + system) / 1000 / REPEATS)} ms of CPU each`);
  assert.ok(p95(ms) < TOO_LONG_MS, `p95 is ${p95(ms)} ms`);
  assert.equal(Math.max(...tools.requests.map(({ depth }) => depth)), LEVELS);
  assert.equal(mesh.gateway.context.agents?.runs.size, 0);
});

/** A run with an own client, as a tool with a network would start it. */
async function ownRun(address: string, over: Parameters<typeof runRequest>[0], key?: string): Promise<RunResponse[]> {
  const client = openChannel(AgentServiceClient, { address });
  const metadata: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const events: RunResponse[] = [];
  try {
    for await (const event of serverStream(client, 'run', runRequest(over), { metadata })) events.push(event);
    return events;
  } finally {
    client.close();
  }
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'OK',
    ({ code, details }: QuernError) => `${code} ${details.reason}`,
  );

test('a tool starts a run below its own with the context it was given; nobody else can', async (t) => {
  const said: string[] = [];
  const model: Model = (prompt) => {
    const messages = messagesOf(prompt);
    const task = messages.find(([role]) => role === 'user')?.[1] ?? '';
    const result = messages.filter(([role]) => role === 'tool').at(-1)?.[1];
    if (task === 'inner') return result === undefined ? hermes('g', {}) : 'inner answer';
    return result === undefined ? hermes('f', {}) : `outer: ${result}`;
  };
  let address = '';
  let leaked = '';
  const mesh = await startAgentMesh(t, {
    model,
    tools: [fakeTool('f'), fakeTool('g')],
    async play({ tool }, _call, tools) {
      if (tool === 'g') return toolResult('plain');
      const nestedContext = tools.contexts.at(-1) ?? '';
      leaked = nestedContext;
      const inner = await ownRun(address, { messages: [user('inner')], nestedContext });
      said.push(String(valuesOf(inner, 'ended')[0]?.outcome));
      const last = nestedContext.at(-5) === 'A' ? 'B' : 'A';
      said.push(
        await codeOf(ownRun(address, { nestedContext: nestedContext.slice(0, -5) + last + nestedContext.slice(-4) })),
      );
      said.push(await codeOf(ownRun(address, { nestedContext: `q1.${randomBytes(40).toString('base64url')}.x` })));
      return toolResult(valuesOf(inner, 'ended')[0]?.answer ?? '');
    },
  });
  address = mesh.mesh.gateway.grpcAddress;
  const events = await mesh.run({ messages: [user('outer')] });
  const forged = 'PERMISSION_DENIED NESTED_CONTEXT_FORGED';
  assert.deepEqual(said, [String(RunOutcome.RUN_OUTCOME_ANSWERED), forged, forged]);
  assert.equal(end(events)?.answer, 'outer: inner answer');
  assert.deepEqual([end(events)?.turns, end(events)?.calls], [4, 2]); // the inner run's are counted above
  assert.deepEqual(
    mesh.tools.requests.map(({ tool, depth }) => [tool, depth]),
    [
      ['f', 0],
      ['g', 1],
    ],
  );
  assert.equal(new Set(mesh.tools.traces).size, 1, 'one trace, though the tool sent none');
  assert.equal(await codeOf(ownRun(address, { nestedContext: leaked })), 'PERMISSION_DENIED NESTED_CONTEXT_ENDED');
});

test('a run that a tool started ends with the run above: by its cancel and by its deadline', async (t) => {
  let inner: Promise<RunResponse[]> = Promise.resolve([]);
  let address = '';
  const model: Model = (prompt) =>
    hermes(messagesOf(prompt).find(([role]) => role === 'user')?.[1] === 'inner' ? 'g' : 'f', {});
  const { run, tools, mesh } = await startAgentMesh(t, {
    model,
    async play({ tool }, call, { contexts }) {
      if (tool === 'f') inner = ownRun(address, { messages: [user('inner')], nestedContext: contexts.at(-1) ?? '' });
      return untilAborted(call);
    },
  });
  address = mesh.gateway.grpcAddress;
  const requestId = 'above';
  const cancelled = run({ options: { requestId, priorityClass: 0, supersedeKey: '' } });
  await eventually(() => tools.running === 2, 'both tools run');
  await unary(mesh.requests, 'cancel', { requestId });
  assert.equal(end(await cancelled)?.outcome, RunOutcome.RUN_OUTCOME_CANCELLED);
  assert.equal(end(await inner)?.outcome, RunOutcome.RUN_OUTCOME_CANCELLED);
  await eventually(() => tools.running === 0, 'nothing runs');
  const late = run({ limits: { wallMs: 1_500 } });
  assert.equal(end(await late)?.outcome, RunOutcome.RUN_OUTCOME_DEADLINE);
  const ended = end(await inner)?.outcome;
  assert.ok(ended === RunOutcome.RUN_OUTCOME_DEADLINE || ended === RunOutcome.RUN_OUTCOME_CANCELLED, String(ended));
  await eventually(() => tools.running === 0, 'nothing runs');
});

test('at another gateway with the same secret a nested run has no more time than the run above has left', async (t) => {
  const secret = { QUERN_GATEWAY_SALT_SECRET: 'the same everywhere' };
  let other = '';
  let started: RunResponse[] = [];
  const inner = await startAgentMesh(t, {
    model: () => hermes('f', {}),
    play: (_, call) => untilAborted(call),
    mesh: { env: secret },
  });
  other = inner.mesh.gateway.grpcAddress;
  const { run } = await startAgentMesh(t, {
    model: (prompt) => (messagesOf(prompt).some(([role]) => role === 'tool') ? 'done' : hermes('f', {})),
    async play(_request, _call, { contexts }) {
      started = await ownRun(other, { messages: [user('inner')], nestedContext: contexts.at(-1) ?? '' });
      return toolResult('x');
    },
    mesh: { env: secret },
  });
  await run({ limits: { wallMs: 5_000 } });
  await eventually(() => end(started)?.outcome === RunOutcome.RUN_OUTCOME_DEADLINE, 'the other run has ended with it');
});

test('a run below another one cannot use more than is left there, nor go deeper, nor be another tenant or user', async (t) => {
  const seen: Record<string, unknown> = {};
  let address = '';
  const folder = mkdtempSync(join(tmpdir(), 'quern-keys-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const keysFile = join(folder, 'keys.json');
  const { token: acme } = await createKey(keysFile, { tenant: 'acme', user: 'ann' });
  const { token: other } = await createKey(keysFile, { tenant: 'other', user: 'ann' });
  const { token: bob } = await createKey(keysFile, { tenant: 'acme', user: 'bob' });
  const model: Model = (prompt) => {
    const messages = messagesOf(prompt);
    const isInner = messages.find(([role]) => role === 'user')?.[1] === 'inner';
    if (isInner) return hermes('g', {});
    return messages.some(([role]) => role === 'tool') ? 'done' : hermes('f', {});
  };
  const agentMesh = await startAgentMesh(t, {
    model,
    mesh: { env: { QUERN_KEYS_FILE: keysFile } },
    async play({ tool }, _call, tools) {
      if (tool === 'g') return toolResult('x');
      const nestedContext = tools.contexts.at(-1) ?? '';
      const request = { messages: [user('inner')], nestedContext, limits: { calls: 500, turns: 64 } };
      seen.code = await codeOf(
        ownRun(address, request, acme).then((inner) => {
          seen.inner = [end(inner)?.outcome, end(inner)?.limit, valuesOf(inner, 'started')[0]?.limits?.calls];
        }),
      );
      seen.foreign = await codeOf(ownRun(address, { nestedContext }, other));
      seen.bob = await codeOf(ownRun(address, { nestedContext }, bob));
      return toolResult('y');
    },
  });
  address = agentMesh.mesh.gateway.grpcAddress;
  const metadata = { authorization: `Bearer ${acme}` };
  const events = await agentMesh.run(
    { messages: [user('outer')], limits: { calls: 5, turns: 30, depth: 1 } },
    { metadata },
  );
  assert.deepEqual(seen.inner, [RunOutcome.RUN_OUTCOME_LIMIT, 'calls', 4]);
  assert.equal(seen.foreign, 'PERMISSION_DENIED NESTED_CONTEXT_FOREIGN');
  assert.equal(seen.bob, 'PERMISSION_DENIED NESTED_CONTEXT_FOREIGN');
  assert.equal(end(events)?.calls, 5);
  assert.equal(end(events)?.answer, 'done');
  assert.equal(seen.code, 'OK');
  await agentMesh.run({ messages: [user('outer')], limits: { depth: 0 } }, { metadata });
  assert.equal(seen.code, 'FAILED_PRECONDITION RUN_TOO_DEEP');
});

test('many runs at once, ended at any moment in any way, leave nothing behind', async (t) => {
  const { run, tools, mesh } = await startAgentMesh(t, {
    model: nested,
    tokensPerStep: 64,
    async play({ tool, argumentsJson }) {
      await new Promise((resolve) => setTimeout(resolve, argumentsJson.length % 7));
      return toolResult(tool);
    },
  });
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const stop = new AbortController();
      const requestId = `run-${n}`;
      const events = run(
        {
          messages: [user('level 2')],
          options: { requestId, priorityClass: 0, supersedeKey: '' },
          limits: { depth: 3, ...(n % 5 === 3 && { wallMs: 20 * n }) },
        },
        {
          signal: stop.signal,
          onEvent: ({ sequence }) => {
            if (Number(sequence) !== 3 + 2 * n) return;
            if (n % 5 === 1) stop.abort();
            if (n % 5 === 2) void unary(mesh.requests, 'cancel', { requestId });
          },
        },
      );
      return events.then(
        (seen) => {
          const made = valuesOf(seen, 'call').map(({ callId }) => callId);
          const ended = valuesOf(seen, 'callEnded').map(({ callId }) => callId);
          assert.deepEqual(ended.toSorted(), made.toSorted());
          assert.equal(valuesOf(seen, 'ended').length, valuesOf(seen, 'started').length);
          return end(seen)?.outcome ?? -1;
        },
        () => -1,
      );
    }),
  );
  assert.ok(outcomes.filter((outcome) => outcome === RunOutcome.RUN_OUTCOME_ANSWERED).length >= 8, outcomes.join());
  const { requests, agents, admission } = mesh.gateway.context;
  await eventually(
    () =>
      tools.running === 0 &&
      mesh.engine.live === 0 &&
      requests.size === 0 &&
      agents?.runs.size === 0 &&
      admission.requests === 0,
    'nothing is left',
  );
});
