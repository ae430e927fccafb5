// Calls that wait for a person: allowed, denied, too late, answered by the wrong one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunOutcome, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { Outcome } from '#gen/quern/tools/v1/tools.ts';
import type { QuernError } from '#kit/errors.ts';
import { localPrincipal, type Principal } from '#kit/principal.ts';
import { startTrace } from '#kit/trace.ts';
import type { AgentRun } from '../../../../services/gateway/agent/agent-run.ts';
import {
  makeRun,
  play,
  result,
  type ScriptedTools,
  scriptedTools,
  scriptedTurn,
  type ToolEvent,
  tool,
  valuesOf,
} from './scripted.ts';

const DIGEST = Buffer.alloc(32, 1);
const user: Principal = { ...localPrincipal, tenant: 'acme', user: 'ann', role: 'user', keyId: 'k1' };

/** A tool that asks first. Without an answer within `ms` it is denied, as the tool service does it. */
function asking(ms: number): ScriptedTools {
  const answered = Promise.withResolvers<boolean>();
  const tools = scriptedTools([tool('rm')], async function* (): AsyncGenerator<ToolEvent> {
    const expiresUnixMs = BigInt(Date.now() + ms);
    const value = {
      approvalId: 'approval-1',
      digest: DIGEST,
      reason: 'it destroys',
      tool: 'rm',
      argumentsJson: '{}',
      expiresUnixMs,
    };
    yield { $case: 'approvalRequired', value };
    const timer = setTimeout(() => answered.resolve(false), ms);
    const isAllowed = await answered.promise;
    clearTimeout(timer);
    if (isAllowed) yield { $case: 'started', value: { executionId: 'e', tier: 'A', setupNs: 1n } };
    const denied = { outcome: Outcome.OUTCOME_DENIED_APPROVAL, message: tools.answers[0]?.reason ?? 'nobody answered' };
    yield { $case: 'result', value: result(isAllowed ? { content: 'removed' } : denied) };
  });
  tools.onAnswer = answered.resolve;
  return tools;
}

type Answer = { allow: boolean; digest?: Buffer; approvalId?: string; reason?: string; unattended?: boolean };

async function asked(from: { ms?: number; principal?: Principal; approver?: Principal; answers: readonly Answer[] }) {
  const tools = asking(from.ms ?? 5_000);
  const turn = scriptedTurn(({ name }) => (name === '0' ? { calls: [{ name: 'rm', args: {} }] } : 'done'));
  const run: AgentRun = await makeRun({ turn, tools, principal: from.principal ?? user });
  const refusals: string[] = [];
  const answer = async (): Promise<void> => {
    for (const given of from.answers) {
      const whole = { digest: DIGEST, approvalId: 'approval-1', reason: '', ...given };
      await run
        .answer(from.approver ?? user, whole, startTrace())
        .catch((error: QuernError) => refusals.push(error.details.reason));
    }
    if (refusals.length > 0) tools.onAnswer(false);
  };
  const events: RunResponse[] = await play(run, ({ event }) => {
    if (event?.$case === 'approval' && from.answers.length > 0) void answer();
  });
  const [ended] = valuesOf(events, 'callEnded');
  return { events, tools, refusals, outcome: ended?.outcome, run, message: turn.requests[1]?.messages.at(-1)?.content };
}

test('allowed: the call runs, and who allowed it is told', async () => {
  const { events, tools, outcome } = await asked({ answers: [{ allow: true }] });
  const [approval] = valuesOf(events, 'approval');
  assert.deepEqual([approval?.callId, approval?.approvalId, approval?.reason], ['0.0', 'approval-1', 'it destroys']);
  assert.ok(approval?.digest.equals(DIGEST));
  assert.equal(outcome, 'OK');
  assert.deepEqual(tools.answers, [{ allow: true, approvalId: 'approval-1', user: 'ann', reason: '' }]);
});

test('denied: the reason is the result', async () => {
  const { outcome, message, events } = await asked({ answers: [{ allow: false, reason: 'not on a Friday' }] });
  assert.equal(outcome, 'DENIED_APPROVAL');
  assert.equal(message, '[DENIED_APPROVAL: not on a Friday]');
  assert.equal(valuesOf(events, 'ended')[0]?.outcome, RunOutcome.RUN_OUTCOME_ANSWERED);
});

test('nobody answers: that is a no', async () => {
  const { outcome, run } = await asked({ ms: 30, answers: [] });
  assert.equal(outcome, 'DENIED_APPROVAL');
  const late = { approvalId: 'approval-1', digest: DIGEST, allow: true, reason: '' };
  await assert.rejects(run.answer(user, late, startTrace()), (error: QuernError) => error.code === 'NOT_FOUND');
});

test('another digest, another id, too late', async () => {
  const other = await asked({
    answers: [
      { allow: true, digest: Buffer.alloc(32, 2) },
      { allow: true, approvalId: 'x' },
    ],
  });
  assert.deepEqual(other.refusals, ['APPROVAL_DIGEST_DIFFERS', 'APPROVAL_NOT_FOUND']);
  assert.deepEqual(other.tools.answers, []);
  const late = await asked({ ms: 0, answers: [{ allow: true }] });
  assert.deepEqual([late.refusals, late.tools.answers], [['APPROVAL_EXPIRED'], []]);
});

test('who may answer: an admin of the tenant, the user of the run; no other user, no service', async () => {
  const roles: [Principal, string][] = [
    [{ ...user, user: 'root', role: 'admin' }, 'OK'],
    [{ ...user, keyId: 'k2' }, 'OK'],
    [{ ...user, user: 'bob' }, 'DENIED_APPROVAL'],
    [{ ...user, role: 'service' }, 'DENIED_APPROVAL'],
  ];
  for (const [approver, expected] of roles) {
    const { outcome, refusals } = await asked({ approver, answers: [{ allow: true }] });
    assert.equal(outcome, expected, JSON.stringify(approver));
    assert.deepEqual(refusals, expected === 'OK' ? [] : ['APPROVER_NOT_ALLOWED']);
  }
});

test('that nobody is there to be asked may also be said by the very key that started the run, and by nobody else', async () => {
  const nobody = [{ allow: false, unattended: true }];
  const service: Principal = { ...user, role: 'service' };
  const own = await asked({ principal: service, approver: service, answers: nobody });
  assert.deepEqual(own.refusals, []);
  assert.deepEqual(own.tools.answers, [
    { allow: false, approvalId: 'approval-1', user: 'ann', reason: '', unattended: true },
  ]);
  const other = await asked({ principal: service, approver: { ...service, keyId: 'k2' }, answers: nobody });
  assert.deepEqual(other.refusals, ['APPROVER_NOT_ALLOWED']);
});
