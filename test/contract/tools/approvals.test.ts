/** Calls that wait for a person: what is shown, who may answer, what an answer is worth. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ApprovalRequired, ToolServiceClient } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import {
  caller,
  type Events,
  executeRequest,
  fakeTool,
  outcomeOf,
  recordsOf,
  resultOf,
  setUp,
} from './support/service.ts';

const asking = [fakeTool({ name: 'fake', decision: 'ask' })];
const reasonOf = (reason: string) => (error: unknown) => error instanceof QuernError && error.details.reason === reason;

/** Runs until the approval is asked for; `rest` gives all events. */
async function ask(client: ToolServiceClient, over: Parameters<typeof executeRequest>[0] = {}) {
  const stream = serverStream(client, 'execute', executeRequest(over));
  const first = await stream.next();
  const event = first.value?.event;
  assert(event?.$case === 'approvalRequired', `expected ApprovalRequired, got ${event?.$case}`);
  const rest = async (): Promise<Events> => {
    const events: Events = [first.value!];
    for await (const one of stream) events.push(one);
    return events;
  };
  return { asked: event.value satisfies ApprovalRequired, rest };
}

test('an approved call runs once, with exactly what was shown', async (t) => {
  const { client, jail, config, close } = await setUp(t, { tools: asking });
  const { asked, rest } = await ask(client, { argumentsJson: '{ "words": ["say", "hi"], "a": 1.0 }' });
  assert.equal(asked.argumentsJson, '{"a":1,"words":["say","hi"]}');
  assert.equal(asked.tool, 'fake');
  assert.match(asked.reason, /policy asks/);
  assert.equal(asked.digest.length, 32);
  assert.ok(Number(asked.expiresUnixMs) > Date.now());
  assert.equal(jail.ran.length, 0);
  const answer = { caller: { ...caller, user: 'boss' }, approvalId: asked.approvalId, digest: asked.digest };
  await unary(client, 'approve', answer);
  const events = await rest();
  assert.deepEqual(
    events.map(({ event }) => event!.$case),
    ['approvalRequired', 'started', 'output', 'result'],
  );
  assert.equal(outcomeOf(events), 'ok');
  await assert.rejects(unary(client, 'approve', answer), reasonOf('APPROVAL_UNKNOWN'));
  assert.equal(jail.ran.length, 1);
  await close();
  const records = (await recordsOf(config)).filter(({ action }) => action.startsWith('tool.'));
  assert.deepEqual(
    records.map(({ action }) => action),
    ['tool.requested', 'tool.approved', 'tool.finished'],
  );
  const [requested, approved] = records;
  assert.equal(approved!.parent_id, requested!.id);
  assert.notEqual(approved!.actor.ref, requested!.actor.ref);
});

test('a denial is a result for the model, with the reason', async (t) => {
  const { client, jail, config, close } = await setUp(t, { tools: asking });
  const { asked, rest } = await ask(client);
  await unary(client, 'deny', { caller, approvalId: asked.approvalId, reason: 'not\u001b[31m today' });
  const events = await rest();
  assert.equal(outcomeOf(events), 'denied_approval');
  assert.match(resultOf(events).content, /not today/);
  assert.equal(jail.ran.length, 0);
  await close();
  const actions = (await recordsOf(config)).map(({ action, reason }) => `${action} ${reason ?? ''}`.trim());
  assert.ok(
    actions.includes('tool.denied DENIED') && actions.includes('tool.finished DENIED_APPROVAL'),
    actions.join(),
  );
});

test('that nobody is there to be asked is an outcome of its own, and no denial by a person', async (t) => {
  const { client, jail, config, close } = await setUp(t, { tools: asking });
  const { asked, rest } = await ask(client);
  await unary(client, 'deny', { caller, approvalId: asked.approvalId, reason: '', unattended: true });
  const events = await rest();
  assert.equal(outcomeOf(events), 'no_approver');
  assert.match(resultOf(events).content, /nobody is there to be asked/);
  assert.doesNotMatch(resultOf(events).content, /denied/);
  assert.equal(jail.ran.length, 0);
  await close();
  const records = await recordsOf(config);
  assert.deepEqual(
    records
      .filter(({ action }) => action === 'tool.denied' || action === 'tool.finished')
      .map(({ action, outcome, reason }) => [action, outcome, reason]),
    [
      ['tool.denied', 'denied', 'NO_APPROVER'],
      ['tool.finished', 'denied', 'NO_APPROVER'],
    ],
  );
});

test('only the same tenant answers, and only what it was shown', async (t) => {
  const { client } = await setUp(t, { tools: asking });
  const { asked, rest } = await ask(client);
  const { approvalId, digest } = asked;
  const foreign = { ...caller, tenant: 'other' };
  await assert.rejects(unary(client, 'approve', { caller: foreign, approvalId, digest }), reasonOf('APPROVAL_UNKNOWN'));
  await assert.rejects(
    unary(client, 'deny', { caller: foreign, approvalId, reason: '' }),
    reasonOf('APPROVAL_UNKNOWN'),
  );
  const wrong = { caller, approvalId, digest: Buffer.alloc(32) };
  await assert.rejects(unary(client, 'approve', wrong), reasonOf('APPROVAL_DIGEST_MISMATCH'));
  await assert.rejects(unary(client, 'approve', { ...wrong, digest: Buffer.alloc(0) }), /digest/);
  await unary(client, 'approve', { caller, approvalId, digest }); // it still waits
  assert.equal(outcomeOf(await rest()), 'ok');
});

test('no answer in time is a no', async (t) => {
  const { client, jail } = await setUp(t, { tools: asking, env: { QUERN_TOOLS_APPROVAL_WAIT: '1s' } });
  const { rest } = await ask(client);
  const events = await rest();
  assert.equal(outcomeOf(events), 'denied_approval');
  assert.match(resultOf(events).message, /in time/);
  assert.equal(jail.ran.length, 0);
});

test('a workspace that changed meanwhile makes the approval worthless', async (t) => {
  const { client, dir, jail } = await setUp(t, { tools: asking });
  const { asked, rest } = await ask(client);
  const work = join(dir, 'work', 'acme-session-one');
  await mkdir(work, { recursive: true });
  await writeFile(join(work, 'new.txt'), 'x');
  await unary(client, 'approve', { caller, approvalId: asked.approvalId, digest: asked.digest });
  const events = await rest();
  assert.equal(outcomeOf(events), 'denied_approval');
  assert.match(resultOf(events).message, /workspace changed/);
  assert.equal(jail.ran.length, 0);
});

test('digests differ by arguments, stdin and workspace, and are the same for the same call', async (t) => {
  const { client, dir } = await setUp(t, { tools: asking });
  const digestOf = async (over: Parameters<typeof executeRequest>[0]): Promise<string> => {
    const { asked, rest } = await ask(client, over);
    await unary(client, 'deny', { caller, approvalId: asked.approvalId, reason: '' });
    await rest();
    return asked.digest.toString('hex');
  };
  const first = await digestOf({});
  assert.equal(await digestOf({}), first);
  const others = [await digestOf({ words: ['exit', '1'] }), await digestOf({ stdin: Buffer.from('x') })];
  await writeFile(join(dir, 'work', 'acme-session-one', 'f'), 'x');
  others.push(await digestOf({}));
  assert.equal(new Set([first, ...others]).size, 4);
});

test('a cancel or a deadline ends the waiting', async (t) => {
  const { client } = await setUp(t, { tools: asking });
  const { rest } = await ask(client, { callId: 'c' });
  assert.equal((await unary(client, 'cancel', { caller, callId: 'c' })).wasRunning, true);
  assert.equal(outcomeOf(await rest()), 'cancelled');
  const late = await ask(client, { timeoutMs: 3_000 }); // it must be asked for before that
  assert.equal(outcomeOf(await late.rest()), 'deadline');
});

test('the call that completes the three things asks, though the policy allows the tool', async (t) => {
  const fetch = { readUntrusted: true, hasPrivate: false, canExfiltrate: true };
  const { client } = await setUp(t, { tools: [fakeTool({ name: 'fake', taint: fetch })] });
  const harmless = serverStream(client, 'execute', executeRequest());
  assert.equal((await harmless.next()).value?.event?.$case, 'started');
  await harmless.return();
  const { asked, rest } = await ask(client, {
    taint: { readUntrusted: false, hasPrivate: true, canExfiltrate: false },
  });
  assert.match(asked.reason, /private data/);
  await unary(client, 'deny', { caller, approvalId: asked.approvalId, reason: 'no' });
  assert.equal(outcomeOf(await rest()), 'denied_approval');
});
