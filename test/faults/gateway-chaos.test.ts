// The short form of cancel-storm.ts: nothing may be left behind by cancels, disconnects, deadlines and broken engines.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startMesh } from '../contract/gateway/fakes/mesh.ts';
import { CHAOS_SCRIPT, cancelStorm, chaos } from './gateway-load.ts';

const NOTHING = { engineLive: 0, handles: 0, zombies: 0, admitted: 0, tokens: 0, table: 0 };

test('a storm of cancels on one connection kills no other stream and leaves nothing', {
  timeout: 240_000,
}, async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 10 } });
  const report = await cancelStorm(mesh, { cancels: 1_200, perSecond: 500, bystanders: 20 });
  assert.equal(report.deaths, 0);
  assert.ok(report.bystanderTokens > 20 * 20, `${report.bystanderTokens} tokens beside the storm`);
  assert.deepEqual(report.left, NOTHING);
});

test('cancels, disconnects, deadlines, bad inputs and broken sessions: right texts, nothing left', {
  timeout: 240_000,
}, async (t) => {
  const mesh = await startMesh(t, { engines: 2, engine: { stepMs: 2, script: () => CHAOS_SCRIPT } });
  const seed = Math.floor(Math.random() * 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const { outcomes, wrong, left } = await chaos(mesh, { requests: 600, concurrency: 32, breakEvery: 60, seed });
  assert.deepEqual(wrong, []);
  assert.deepEqual(left, NOTHING);
  const count = (kind: RegExp): number =>
    Object.entries(outcomes).reduce((sum, [name, times]) => sum + (kind.test(name) ? times : 0), 0);
  for (const kind of [/^whole: (stop|length)/, /^cancel: /, /^disconnect: dropped/, /^deadline: /, /^bad: /]) {
    assert.ok(count(kind) > 20, `${kind}: ${JSON.stringify(outcomes)}`);
  }
});
