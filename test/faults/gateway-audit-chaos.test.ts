// The audit under everything that clients and engines do at once: each accepted request has exactly one end.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertPaired, named, recordsIn } from '../contract/gateway/fakes/audit-records.ts';
import { eventually, startMesh } from '../contract/gateway/fakes/mesh.ts';
import { CHAOS_SCRIPT, chaos } from './gateway-load.ts';

test('cancels, disconnects, deadlines, bad inputs and broken sessions: accepted equals finished', {
  timeout: 240_000,
}, async (t) => {
  const mesh = await startMesh(t, {
    engines: 2,
    engine: { stepMs: 2, script: () => CHAOS_SCRIPT },
    audit: () => ({}),
  });
  const seed = Math.floor(Math.random() * 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const { wrong } = await chaos(mesh, { requests: 300, concurrency: 24, breakEvery: 60, seed });
  assert.deepEqual(wrong, []);
  const dir = join(mesh.folder, 'outbox');
  const open = async (): Promise<number> => {
    const records = await recordsIn(dir);
    return named(records, 'request.accepted').length - named(records, 'request.finished').length;
  };
  await eventually(async () => (await open()) === 0, 'all have ended', 60_000);
  await mesh.gateway.close();
  const records = await recordsIn(dir);
  assertPaired(records);
  const ends = named(records, 'request.finished');
  const outcomes = new Map<string, number>();
  for (const { outcome } of ends) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  t.diagnostic(JSON.stringify(Object.fromEntries(outcomes)));
  assert.ok(ends.length >= 200, `${ends.length} requests`);
  for (const outcome of ['ok', 'cancelled', 'error']) assert.ok((outcomes.get(outcome) ?? 0) > 5, outcome);
  assert.ok(named(records, 'engine.crashed').length >= 2);
  const accepted = new Set(named(records, 'request.accepted').map(({ id }) => id));
  for (const { parent_id: id = '' } of named(records, 'request.affected')) assert.ok(accepted.has(id));
  assert.equal(records.at(-1)?.action, 'service.drained');
});
