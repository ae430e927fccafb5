/** One execution per idempotency key: at once, afterwards, over a restart and over a crash. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ToolServiceClient } from '#gen/quern/tools/v1/tools.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';
import { openChannel, serverStream } from '#kit/rpc/client.ts';
import { CallJournal } from '../../../services/tools/call-journal.ts';
import { createFakeJail } from './support/fake-jail.ts';
import { attachTo, caller, executeRequest, outcomeOf, recordsOf, resultOf, run, setUp } from './support/service.ts';

const isReused = (error: unknown) => error instanceof QuernError && error.details.reason === 'IDEMPOTENCY_KEY_REUSED';

test('the same key twice at once runs once, and both get the result', async (t) => {
  const { client, jail } = await setUp(t);
  const words = ['sleep', '150', 'say', 'once'];
  const calls = await Promise.all(Array.from({ length: 5 }, () => run(client, { idempotencyKey: 'k', words })));
  assert.equal(jail.ran.length, 1);
  for (const events of calls) assert.equal(resultOf(events).content, 'once');
  assert.equal(calls.filter((events) => resultOf(events).replayed).length, 4);
  const replayed = calls.find((events) => resultOf(events).replayed)!;
  assert.deepEqual(
    replayed.map(({ sequence }) => sequence),
    [1n],
  );
});

test('a key stands for one call of one user', async (t) => {
  const { client, jail } = await setUp(t);
  await run(client, { idempotencyKey: 'k', words: ['say', 'a'] });
  await assert.rejects(run(client, { idempotencyKey: 'k', words: ['say', 'b'] }), isReused);
  const other = { caller: { ...caller, user: 'bob' }, idempotencyKey: 'k', words: ['say', 'b'] };
  assert.equal(resultOf(await run(client, other)).content, 'b');
  assert.equal(jail.ran.length, 2);
});

test('a key whose call never ran is free again', async (t) => {
  const { client, jail } = await setUp(t);
  jail.tier = null;
  assert.equal(outcomeOf(await run(client, { idempotencyKey: 'k', argumentsJson: '{' })), 'invalid_args');
  const again = await run(client, { idempotencyKey: 'k', argumentsJson: '{' });
  assert.equal(resultOf(again).replayed, false);
});

test('the kept result outlives a restart, byte for byte', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-tools-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const first = await setUp(t, { dir });
  const before = await run(first.client, { idempotencyKey: 'k', words: ['say', 'kept \u00e9', 'exit', '7'] });
  await first.close();
  const jail = createFakeJail();
  const second = await setUp(t, { dir, jail });
  const after = await run(second.client, { idempotencyKey: 'k', words: ['say', 'kept \u00e9', 'exit', '7'] });
  assert.deepEqual(resultOf(after), { ...resultOf(before), replayed: true });
  assert.equal(jail.ran.length, 0);
});

test('the last listener that leaves ends the call; one that joined keeps it', async (t) => {
  const { client, jail } = await setUp(t);
  const stop = new AbortController();
  const words = ['sleep', '1500', 'say', 'done'];
  const first = run(client, { idempotencyKey: 'k', words }, { signal: stop.signal }).catch(() => 'gone');
  while (jail.running === 0) await sleep(2);
  const joined = serverStream(client, 'execute', executeRequest({ idempotencyKey: 'k', words }));
  const events = [(await joined.next()).value!];
  stop.abort();
  assert.equal(await first, 'gone');
  for await (const event of joined) events.push(event);
  assert.equal(resultOf(events).content, 'done');
});

test('a crash between start and end is told as unknown, and never run again', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-tools-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const ranFile = join(dir, 'ran');
  const child = fork(join(import.meta.dirname, 'support', 'crashing-service.ts'), [dir, ranFile], { stdio: 'inherit' });
  t.after(() => child.kill('SIGKILL'));
  const [address] = (await once(child, 'message')) as [string];
  const client = openChannel(ToolServiceClient, { address });
  const over = { callId: 'lost', idempotencyKey: 'k', words: ['forever'] };
  const ran = async () => (await readFile(ranFile, 'utf8').catch(() => '')).split('\n').length - 1;
  const broken = run(client, over).then(
    () => assert.fail('the service was killed'),
    (error: QuernError) => error.code,
  );
  const done = await run(client, { callId: 'done', idempotencyKey: 'd', words: ['say', 'ended'] });
  assert.equal(resultOf(done).content, 'ended');
  while ((await ran()) < 2) await sleep(5);
  child.kill('SIGKILL');
  assert.equal(await broken, 'UNAVAILABLE');
  client.close();

  const jail = createFakeJail();
  const { client: second, config, close } = await setUp(t, { dir, jail });
  for (let i = 0; i < 2; i++) {
    const events = await run(second, { ...over, callId: `retry-${i}` });
    assert.equal(outcomeOf(events), 'unknown');
    assert.match(resultOf(events).message, /another key/);
    assert.equal(resultOf(events).replayed, true);
  }
  assert.equal(resultOf(await run(second, { idempotencyKey: 'd', words: ['say', 'ended'] })).content, 'ended');
  assert.equal(outcomeOf(await attachTo(second, { callId: 'lost', afterSequence: 1n })), 'unknown');
  await assert.rejects(run(second, { callId: 'lost' }), /another call's already/);
  assert.equal(jail.ran.length, 0);
  await close();
  const records = await recordsOf(config);
  const requested = records.filter(({ action }) => action === 'tool.requested');
  const finished = records.filter(({ action }) => action === 'tool.finished');
  assert.equal(requested.length, 2);
  for (const { id } of requested) assert.equal(finished.filter(({ parent_id: parent }) => parent === id).length, 1);
  assert.deepEqual(finished.map(({ outcome, reason }) => [outcome, reason]).sort(), [
    ['ok', 'OK'],
    ['unknown', 'RECOVERED'],
  ]);
});

test("a crash that took the record of asking, but not the journal's entry, leaves one end by itself", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-tools-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const { config, close } = await setUp(t, { dir });
  await close();
  const { journal } = await CallJournal.open({ files: await openSegmentFiles(config.folders.journal) });
  const call = { executionId: '01JD0000000000000000000000', tenant: 'acme', callId: 'c', requestId: 'r1' };
  const digests = { owner: '0a', actorRef: 'pseudonym', key: '0b', requestSha: '0c', toolSha: '0d' };
  await journal.begin({ ...call, ...digests, tool: 'fake', traceId: '0e'.repeat(16) });
  await journal.close();
  for (let starts = 0; starts < 2; starts++) await (await setUp(t, { dir })).close();
  const records = (await recordsOf(config)).filter(({ action }) => action.startsWith('tool.'));
  assert.deepEqual(
    records.map(({ action, outcome, reason, execution_id, parent_id }) => [
      action,
      outcome,
      reason,
      execution_id,
      parent_id,
    ]),
    [['tool.finished', 'unknown', 'RECOVERED', call.executionId, undefined]],
  );
});
