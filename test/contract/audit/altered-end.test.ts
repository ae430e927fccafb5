// The end of the ledger is changed while nobody runs it, behind all that is signed: it is told of, and its records come again.
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VerifyResponse } from '#gen/quern/audit/v1/audit.ts';
import { serverStream } from '#kit/rpc/client.ts';
import { setUp } from './support/service.ts';

test('a changed end that nothing signed is in the log as a gap, and what stood there comes again from the stream', async (t) => {
  const set = await setUp(t);
  await set.request('ada', 'a1');
  await set.recorded(2);
  const checkpoints = join(set.config.dir, 'checkpoints.jsonl');
  await set.restart(); // signs
  const signed = await readFile(checkpoints);
  await set.request('bob', 'b1');
  await set.recorded(4);
  await set.stop();
  await writeFile(checkpoints, signed); // as if it had been killed before it signed again
  const folder = join(set.config.dir, 'ledger', 'records');
  const segment = (await readdir(folder)).filter((name) => name.endsWith('.qal')).at(-1)!;
  const bytes = await readFile(join(folder, segment));
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(join(folder, segment), bytes);
  await set.restart();
  let told: { target: string; reason: string; usage: Map<string, bigint> } | undefined;
  while (!told) {
    for await (const row of serverStream(set.client, 'tail', { tenant: '_system', backlog: 1000 }, set.options)) {
      if (row.action === 'audit.gap') told = row;
      if (told || row.action === 'audit.read') break;
    }
    await sleep(10);
  }
  const index = told.usage.get('first_index');
  assert.deepEqual([told.target, told.reason, told.usage.get('records')], ['ledger', 'END_ALTERED', 1n]);
  let rows = await set.query();
  for (; rows.length < 2 || rows[0]?.finished === ''; rows = await set.query()) await sleep(10);
  assert.deepEqual(
    rows.map(({ requestId, user }) => [requestId, user]),
    [
      ['b1', 'bob'],
      ['a1', 'ada'],
    ],
  );
  let last: VerifyResponse | undefined;
  for await (const one of serverStream(set.client, 'verify', { trustedCheckpoint: '' }, set.options)) last = one;
  assert.deepEqual([last?.verdict, last?.index], ['gap', index]);
  assert.match(last!.message, /kept in a file \*\.aside\.json/, 'no record is missing');
  await set.restart();
  const names = (await readdir(folder)).filter((name) => name.endsWith('.aside.json'));
  assert.equal(names.length, 1, 'it is kept, and told of once');
});
