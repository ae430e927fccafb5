/** Calls that wait over gRPC with a fake jail: places, turns of tenants, a full queue, a drain. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { QuernError } from '#kit/errors.ts';
import { createFakeJail } from './support/fake-jail.ts';
import { caller, outcomeOf, reasonOf, run, setUp } from './support/service.ts';

test('places: four of one tenant at once, tenants in turn', async (t) => {
  const jail = createFakeJail();
  const { client } = await setUp(t, { jail, env: { QUERN_TOOLS_CONCURRENT_PER_HOST: '6' } });
  const ended: string[] = [];
  const of = async (tenant: string): Promise<void> => {
    const events = await run(client, { caller: { ...caller, tenant }, words: ['sleep', '60'] });
    assert.equal(outcomeOf(events), 'ok');
    ended.push(tenant);
  };
  const many = Array.from({ length: 20 }, () => of('many'));
  await sleep(20);
  const few = Array.from({ length: 3 }, () => of('few'));
  await Promise.all([...many, ...few]);
  assert.equal(jail.peak, 6);
  assert.ok(ended.lastIndexOf('few') < 14, `the small tenant waited for: ${ended.join(' ')}`);
});

test('a full queue refuses, and drops the newest of whoever has most of it', async (t) => {
  const env = { QUERN_TOOLS_QUEUE: '4', QUERN_TOOLS_CONCURRENT_PER_TENANT: '1' };
  const { client, jail, metrics } = await setUp(t, { env });
  const of = (tenant: string, words = ['sleep', '10']) => run(client, { caller: { ...caller, tenant }, words });
  const long = ['sleep', '8000']; // longer than all that happens beside it takes on a busy machine
  const running = of('many', long);
  while (jail.running === 0) await sleep(2);
  const queued: Promise<string>[] = [];
  for (let waiting = 1; waiting <= 4; waiting += 1) {
    queued.push(of('many').then(outcomeOf, (error: QuernError) => error.details.reason));
    const line = new RegExp(`^quern_tools_queued(?:{.*})? ${waiting}$`, 'm');
    while (!line.test(await metrics.render())) await sleep(2);
  }
  await assert.rejects(of('many'), reasonOf('TOOL_QUEUE_FULL'));
  const other = of('other', long);
  while (jail.running < 2) await sleep(2);
  const third = of('other'); // has no place, and takes room from the other tenant
  assert.equal(outcomeOf(await third), 'ok');
  assert.equal(outcomeOf(await other), 'ok');
  assert.equal(outcomeOf(await running), 'ok');
  assert.deepEqual(await Promise.all(queued), ['ok', 'ok', 'ok', 'TOOL_QUEUE_FULL']);
});

test('drain: what waits ends at once, what runs after the grace', async (t) => {
  const { client, service, jail } = await setUp(t, { env: { QUERN_TOOLS_CONCURRENT_PER_TENANT: '1' } });
  const running = run(client, { words: ['forever'] });
  while (jail.running === 0) await sleep(2);
  const waiting = run(client, { words: ['exit', '0'] });
  await sleep(300);
  await service.drain({ graceMs: 2_300 });
  assert.equal(outcomeOf(await running), 'killed_by_drain');
  assert.equal(outcomeOf(await waiting), 'killed_by_drain');
  assert.equal(jail.running, 0);
});
