/** The tool service is killed again and again while calls with keys run: nothing runs twice, every call has one end. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ToolServiceClient } from '#gen/quern/tools/v1/tools.ts';
import { openChannel } from '#kit/rpc/client.ts';
import { outcomeOf, recordsOf, resultOf, run, setUp } from '../contract/tools/support/service.ts';

const ROUNDS = 5;
const CALLS = 16;
const SERVICE = join(import.meta.dirname, '..', 'contract', 'tools', 'support', 'crashing-service.ts');

test('killed at any moment: no key runs twice, no result is taken back, every record of asking has its end', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-tools-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const ranFile = join(dir, 'ran');
  const ran = async (): Promise<string[]> =>
    (await readFile(ranFile, 'utf8').catch(() => '')).split('\n').filter(Boolean);
  /** What callers were told, by key. */
  const told = new Map<string, { outcome: string; content: string }>();
  const keys = Array.from({ length: ROUNDS * CALLS }, (_, i) => `key-${i}`);

  /** Resolves with what kept calls from being told. */
  async function callAll(client: ToolServiceClient, wanted: readonly string[], round: number): Promise<unknown[]> {
    const calls = wanted.map(async (key, i) => {
      await sleep(i * 12);
      const index = keys.indexOf(key);
      const args = { words: ['sleep', String((index * 37) % 120), 'say', key] };
      const events = await run(client, {
        caller: { tenant: `t${index % 5}`, user: 'u', keyId: '', sessionId: 's', requestId: key },
        callId: `${key}-${round}`,
        idempotencyKey: key,
        argumentsJson: JSON.stringify(args),
      });
      const result = { outcome: outcomeOf(events), content: resultOf(events).content };
      const before = told.get(key);
      if (before) assert.deepEqual(result, before, `${key} was told otherwise before`);
      told.set(key, result);
    });
    const failures = (await Promise.allSettled(calls)).filter((call) => call.status === 'rejected');
    const wrong = failures.find(({ reason }) => reason instanceof assert.AssertionError);
    if (wrong) throw wrong.reason;
    return failures.map(({ reason }) => reason);
  }

  for (let round = 0; round < ROUNDS; round++) {
    const child = fork(SERVICE, [dir, ranFile], { stdio: 'inherit' });
    t.after(() => child.kill('SIGKILL'));
    const [address] = (await once(child, 'message')) as [string];
    const client = openChannel(ToolServiceClient, { address });
    const work = callAll(client, keys.slice(0, (round + 1) * CALLS), round);
    const enough = (await ran()).length + 2 + round * 2;
    while ((await ran()).length < enough) await sleep(2);
    await sleep(round * 7);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await work;
    client.close();
  }
  const last = await setUp(t, { dir });
  assert.deepEqual(await callAll(last.client, keys, ROUNDS), [], 'nothing keeps them from being told now');
  assert.equal(told.size, keys.length);
  const unknown = [...told.values()].filter(({ outcome }) => outcome === 'unknown').length;
  t.diagnostic(`${unknown} of ${keys.length} calls are unknown`);
  for (const [key, { outcome, content }] of told) {
    assert.ok(outcome === 'unknown' || (outcome === 'ok' && content === key), `${key}: ${outcome}`);
  }
  const all = await ran();
  assert.equal(new Set(all).size, all.length, 'a key ran twice');
  assert.ok(unknown > 0, 'no kill met a call that ran');
  await last.close();

  const records = await recordsOf(last.config);
  const requested = records.filter(({ action }) => action === 'tool.requested');
  const ends = Map.groupBy(
    records.filter(({ action }) => action === 'tool.finished'),
    ({ execution_id: id }) => id,
  );
  for (const { execution_id: id } of requested) assert.equal(ends.get(id)?.length, 1, `${id}`);
  // Journal and outbox are written at the same time: a kill between them leaves an end by itself, of a call that never ran.
  for (const { execution_id: id } of requested) ends.delete(id);
  t.diagnostic(`${ends.size} calls were in the journal alone`);
  for (const [end, ...more] of ends.values()) {
    assert.deepEqual([end!.outcome, end!.reason, end!.parent_id, more], ['unknown', 'RECOVERED', undefined, []]);
    assert.ok(!all.some((line) => line.endsWith(` ${end!.request_id}`)), `${end!.request_id} ran without a record`);
    assert.equal(told.get(end!.request_id!)?.outcome, 'unknown');
  }
});
