// Agent runs with the real tool service: its registry, policy, approvals, journal and taint; only the sandbox is a fake.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { RunOutcome, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import type { QuernError } from '#kit/errors.ts';
import { unary } from '#kit/rpc/client.ts';
import { valuesOf } from '../../unit/gateway/agent/scripted.ts';
import { fakeTool, type SetUp, setUp } from '../tools/support/service.ts';
import { hermes, type Model, messagesOf, startAgentMesh } from './fakes/agent-mesh.ts';
import { eventually } from './fakes/mesh.ts';

const end = (events: readonly RunResponse[]) => valuesOf(events, 'ended').at(-1);

async function joined(t: TestContext, model: Model, options: SetUp) {
  const service = await setUp(t, options);
  const mesh = await startAgentMesh(t, { model, toolsAddress: service.service.address });
  return { ...mesh, ...service };
}

/** Makes the calls one turn after the other. */
const calling =
  (...turns: [tool: string, words: string[]][][]): Model =>
  (prompt) => {
    const asked = messagesOf(prompt).filter(([role]) => role === 'assistant').length;
    return (turns[asked] ?? []).map(([tool, words]) => hermes(tool, { words })).join('\n') || 'done';
  };

test('calls run and fail as the service says; output comes as it is written', async (t) => {
  const model = calling([
    ['fake', ['say', 'hello']],
    ['fake', ['say', 'half', 'exit', '3']],
    ['fake', ['killed', 'memory']],
    ['other', []],
  ]);
  const { run, jail } = await joined(t, model, {});
  const events = await run({});
  const ended = valuesOf(events, 'callEnded').toSorted((a, b) => (a.callId < b.callId ? -1 : 1));
  assert.deepEqual(
    ended.map(({ outcome, exitCode }) => [outcome, exitCode]),
    [
      ['OK', 0],
      ['NONZERO_EXIT', 3],
      ['OOM', undefined],
      ['INVALID_ARGS', undefined],
    ],
  );
  assert.equal(ended[0]?.content, 'hello');
  assert.match(ended[1]?.content ?? '', /^half\n\[NONZERO_EXIT: /);
  const output = valuesOf(events, 'callOutput').filter(({ callId }) => callId === '0.0');
  assert.equal(Buffer.concat(output.map(({ data }) => data)).toString(), 'hello');
  assert.equal(jail.ran.length, 3);
  assert.equal(end(events)?.outcome, RunOutcome.RUN_OUTCOME_ANSWERED);
});

test('an approval with the digest of the service: allowed once, and shown as the service read it', async (t) => {
  const { run, agent, jail } = await joined(t, calling([['fake', ['say', 'gone']]]), {
    tools: [fakeTool({ name: 'fake', decision: 'ask' })],
  });
  const codes: string[] = [];
  const events = await run(
    { options: { requestId: 'r', priorityClass: 0, supersedeKey: '' } },
    {
      onEvent: ({ event }) => {
        if (event?.$case !== 'approval') return;
        const { approvalId, digest } = event.value;
        const answer = { runId: 'r', approvalId, digest, allow: true, reason: '' };
        const send = (): Promise<unknown> =>
          unary(agent, 'approve', answer).then(
            () => codes.push('OK'),
            (error: QuernError) => codes.push(error.code),
          );
        void send().then(send);
      },
    },
  );
  await eventually(() => codes.length === 2, 'both answers are answered');
  assert.deepEqual(codes, ['OK', 'NOT_FOUND']);
  const [approval] = valuesOf(events, 'approval');
  assert.deepEqual([approval?.tool, approval?.argumentsJson], ['fake', '{"words":["say","gone"]}']);
  assert.deepEqual([valuesOf(events, 'callEnded')[0]?.outcome, jail.ran.length], ['OK', 1]);
});

test('taint: the call that would complete the three asks, in the run as a whole', async (t) => {
  const taint = (readUntrusted: boolean, hasPrivate: boolean, canExfiltrate: boolean) => ({
    readUntrusted,
    hasPrivate,
    canExfiltrate,
  });
  const model = calling([['web', ['say', 'x']]], [['files', ['say', 'y']]], [['web', ['say', 'z']]]);
  const { run, agent, jail } = await joined(t, model, {
    tools: [
      fakeTool({ name: 'web', taint: taint(true, false, true) }),
      fakeTool({ name: 'files', taint: taint(false, true, false) }),
    ],
  });
  const events = await run(
    { options: { requestId: 'r', priorityClass: 0, supersedeKey: '' } },
    {
      onEvent: ({ event }) => {
        if (event?.$case !== 'approval') return;
        const { approvalId, digest } = event.value;
        void unary(agent, 'approve', { runId: 'r', approvalId, digest, allow: false, reason: 'no way out' });
      },
    },
  );
  const asked = valuesOf(events, 'approval').map(({ callId }) => callId);
  assert.ok(asked.length >= 1 && !asked.includes('0.0'), asked.join());
  assert.ok(
    valuesOf(events, 'callEnded').some(
      ({ outcome, content }) => outcome === 'DENIED_APPROVAL' && content.includes('no way out'),
    ),
  );
  assert.ok(jail.ran.length < 3);
});

test('Cancel ends the tool at the service', async (t) => {
  const { run, mesh, jail, service } = await joined(t, calling([['fake', ['forever']]]), {});
  const events = await run(
    { options: { requestId: 'r', priorityClass: 0, supersedeKey: '' } },
    {
      onEvent: ({ event }) => {
        if (event?.$case !== 'call') return;
        void eventually(() => jail.ran.length === 1, 'it runs').then(() =>
          unary(mesh.requests, 'cancel', { requestId: 'r' }),
        );
      },
    },
  );
  assert.deepEqual(
    [end(events)?.outcome, valuesOf(events, 'callEnded')[0]?.outcome],
    [RunOutcome.RUN_OUTCOME_CANCELLED, 'CANCELLED'],
  );
  assert.ok(service);
});

test('a service that is killed while a tool runs: its next start says that nobody knows, and nothing runs twice', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-tools-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const ranFile = join(dir, 'ran');
  const script = join(import.meta.dirname, '../tools/support/crashing-service.ts');
  const child = fork(script, [dir, ranFile], { execArgv: [], stdio: 'inherit' });
  t.after(() => child.kill('SIGKILL'));
  const [toolsAddress] = (await once(child, 'message')) as [string];
  const { run } = await startAgentMesh(t, { model: calling([['fake', ['forever']]]), toolsAddress });
  const running = run({});
  const ran = async (): Promise<number> => (await readFile(ranFile, 'utf8').catch(() => '')).split('\n').length - 1;
  await eventually(async () => (await ran()) === 1, 'the tool runs', 20_000);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const { jail } = await setUp(t, { dir });
  const events = await running;
  const [ended] = valuesOf(events, 'callEnded');
  assert.deepEqual([ended?.outcome, ended?.replayed], ['UNKNOWN', true]);
  assert.deepEqual([end(events)?.outcome, end(events)?.answer], [RunOutcome.RUN_OUTCOME_ANSWERED, 'done']);
  assert.deepEqual([await ran(), jail.ran.length], [1, 0]);
});
