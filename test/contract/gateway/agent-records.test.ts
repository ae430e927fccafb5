// What of an agent run is seen from outside: approvals by those who may, one trace, records under one request id; and a tool
// service that comes and goes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { RunOutcome, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { Outcome } from '#gen/quern/tools/v1/tools.ts';
import type { QuernError } from '#kit/errors.ts';
import { createKey } from '#kit/keys-file.ts';
import { unary } from '#kit/rpc/client.ts';
import type { SpanRecord } from '#kit/trace.ts';
import { valuesOf } from '../../unit/gateway/agent/scripted.ts';
import { hermes, type Model, messagesOf, startAgentMesh, user } from './fakes/agent-mesh.ts';
import { named, recordsIn } from './fakes/audit-records.ts';
import { type FakePlay, toolResult } from './fakes/fake-tools.ts';
import { eventually } from './fakes/mesh.ts';

const end = (events: readonly RunResponse[]) => valuesOf(events, 'ended').at(-1);
const once: Model = (prompt) =>
  messagesOf(prompt).some(([role]) => role === 'tool') ? 'done' : hermes('f', { path: '/' });
const options = (requestId: string) => ({ requestId, priorityClass: 0 as const, supersedeKey: '' });

/** Asks for approval, then does as it is told. */
const asking: FakePlay = async function* ({ argumentsJson, tool }, _call, tools) {
  const approvalId = randomBytes(13).toString('hex');
  const answer = tools.answered(approvalId);
  const expiresUnixMs = BigInt(Date.now() + 10_000);
  const value = { approvalId, digest: Buffer.alloc(32, 5), reason: 'destroys', tool, argumentsJson, expiresUnixMs };
  yield { $case: 'approvalRequired', value };
  const denied = { outcome: Outcome.OUTCOME_DENIED_APPROVAL, message: 'denied by a person' };
  yield { $case: 'result', value: (await answer) ? toolResult('removed') : toolResult('', denied) };
};

test('approvals: the user and an admin may answer, others may not; the arguments are shown', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-keys-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'keys.json');
  const bearer = async (tenant: string, name: string, role: 'user' | 'admin' | 'service' = 'user') => {
    const { token } = await createKey(file, { tenant, user: name, role });
    return { authorization: `Bearer ${token}` };
  };
  const ann = await bearer('acme', 'ann');
  const root = await bearer('acme', 'root', 'admin');
  const others: [Record<string, string>, string][] = [
    [await bearer('acme', 'bob'), 'PERMISSION_DENIED'],
    [await bearer('acme', 'app', 'service'), 'PERMISSION_DENIED'],
    [await bearer('other', 'root', 'admin'), 'NOT_FOUND'],
  ];
  const { run, agent, tools } = await startAgentMesh(t, {
    model: once,
    play: asking,
    mesh: { env: { QUERN_KEYS_FILE: file } },
  });
  const answered = async (who: Record<string, string>, allow: boolean): Promise<[string[], RunResponse[]]> => {
    const codes: string[] = [];
    const reply = async (approvalId: string, digest: Buffer): Promise<void> => {
      const answer = { runId: 'r', approvalId, digest, allow, reason: 'no' };
      const send = (metadata: Record<string, string>, over = {}): Promise<string> =>
        unary(agent, 'approve', { ...answer, ...over }, { metadata }).then(
          () => 'OK',
          ({ code }: QuernError) => code,
        );
      for (const [other] of others) codes.push(await send(other));
      codes.push(await send(who, { digest: Buffer.alloc(32) }), await send(who, { digest: Buffer.alloc(3) }));
      codes.push(await send(who));
    };
    const events = await run(
      { options: options('r') },
      {
        metadata: ann,
        onEvent: ({ event }) => {
          if (event?.$case === 'approval') void reply(event.value.approvalId, event.value.digest);
        },
      },
    );
    return [codes, events];
  };
  const refused = [...others.map(([, code]) => code), 'FAILED_PRECONDITION', 'INVALID_ARGUMENT'];
  const [codes, events] = await answered(ann, true);
  assert.deepEqual(codes, [...refused, 'OK']);
  assert.equal(valuesOf(events, 'callEnded')[0]?.content, 'removed');
  assert.equal(valuesOf(events, 'call')[0]?.argumentsJson, '{"path":"/"}');
  const [more, denied] = await answered(root, false);
  assert.deepEqual(more, [...refused, 'OK']);
  assert.equal(valuesOf(denied, 'callEnded')[0]?.outcome, 'DENIED_APPROVAL');
  assert.deepEqual(
    [tools.approvals[0]?.caller?.user, tools.denials[0]?.caller?.user, tools.denials[0]?.reason],
    ['ann', 'root', 'no'],
  );
});

test('one trace: invoke_agent above turns and execute_tool, nested runs below their call; no text in it', async (t) => {
  const spans: SpanRecord[] = [];
  const model: Model = (prompt) => {
    const messages = messagesOf(prompt);
    const isInner = messages[0]?.[1] === 'inner secret';
    if (messages.some(([role]) => role === 'tool')) return 'done';
    return isInner ? hermes('f', { path: 'secret' }) : hermes('agent', { task: 'inner secret' });
  };
  const { run, tools } = await startAgentMesh(t, { model, mesh: { spans: { record: (span) => spans.push(span) } } });
  await run({ messages: [user('outer secret')] });
  await eventually(() => spans.some(({ name }) => name.endsWith('AgentService/Run')), 'the call has ended');
  const byId = new Map(spans.map((span) => [span.context.spanId, span]));
  const above = ({ parentSpanId }: SpanRecord): string => byId.get(parentSpanId ?? '')?.name ?? '';
  const tree = (name: string): string[] =>
    spans
      .filter((span) => span.name === name)
      .map(above)
      .toSorted();
  assert.equal(new Set(spans.map(({ context }) => context.traceId)).size, 1);
  assert.deepEqual(tree('invoke_agent'), ['execute_tool agent', 'quern.gateway.v1.AgentService/Run']);
  assert.deepEqual(tree('chat mock'), ['invoke_agent', 'invoke_agent', 'invoke_agent', 'invoke_agent']);
  assert.deepEqual(tree('execute_tool f'), ['invoke_agent']);
  assert.deepEqual(tree('quern.tools.v1.ToolService/Execute'), ['execute_tool f']);
  assert.deepEqual(new Set(tools.traces), new Set([spans[0]?.context.traceId]));
  const text = JSON.stringify(spans, (_, value) => (typeof value === 'bigint' ? String(value) : value));
  assert.doesNotMatch(text, /secret/);
});

test('records of the run and of its turns are under one request id', async (t) => {
  const { run, mesh } = await startAgentMesh(t, { model: once, mesh: { audit: () => ({}) } });
  await run({ options: options('run-7') });
  const dir = join(mesh.folder, 'outbox');
  await eventually(async () => named(await recordsIn(dir), 'request.finished').length === 2, 'both turns are recorded');
  const records = await recordsIn(dir);
  const turns = [...named(records, 'request.accepted'), ...named(records, 'request.finished')];
  const [started] = named(records, 'agent.started');
  await eventually(async () => named(await recordsIn(dir), 'agent.finished').length === 1, 'its end is recorded');
  const [finished] = named(await recordsIn(dir), 'agent.finished');
  assert.deepEqual(
    [started?.request_id, finished?.request_id, finished?.outcome, finished?.reason],
    ['run-7', 'run-7', 'ok', 'ANSWERED'],
  );
  assert.deepEqual([finished?.usage?.turns, finished?.usage?.calls, finished?.target], [2, 1, 'mock']);
  assert.equal(finished?.actor.ref, turns[0]?.actor.ref);
  assert.deepEqual(
    turns.map(({ request_id }) => request_id),
    ['run-7', 'run-7', 'run-7', 'run-7'],
  );
});

test('a tool service that breaks off a call, and one that is not there', async (t) => {
  const { run, tools } = await startAgentMesh(t, {
    model: once,
    play: async () => {
      throw new Error('the tool service broke');
    },
  });
  const events = await run({});
  const [ended] = valuesOf(events, 'callEnded');
  assert.equal(ended?.outcome, 'SANDBOX_UNAVAILABLE');
  assert.deepEqual([end(events)?.outcome, end(events)?.status?.code], [RunOutcome.RUN_OUTCOME_ERROR, 13]);
  await tools.close();
  await assert.rejects(run({}), (error: QuernError) => error.code === 'UNAVAILABLE');
});
