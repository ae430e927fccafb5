// The short form of mesh-storm.ts: real processes, a real model, clients that misbehave.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findFaults, meshChaos } from './mesh-chaos.ts';

const REQUESTS = 300;

test('cancels, disconnects, deadlines and bad inputs leave nothing behind in any process', {
  timeout: 300_000,
}, async (t) => {
  const seed = Math.floor(Math.random() * 1_000_000);
  t.diagnostic(`seed ${seed}: node test/faults/mesh-storm.ts ${REQUESTS} ${seed}`);
  const report = await meshChaos(t, { requests: REQUESTS, seed, concurrency: 32 });
  assert.deepEqual(findFaults(report), []);
  const count = (kind: RegExp): number =>
    Object.entries(report.outcomes).reduce((sum, [name, times]) => sum + (kind.test(name) ? times : 0), 0);
  const least = REQUESTS / 30;
  for (const kind of [
    /^whole: (stop|length)/,
    /^cancel: /,
    /^cancel: cancelled/,
    /^disconnect: dropped/,
    /^deadline: /,
  ]) {
    assert.ok(count(kind) >= least, `${kind}: ${JSON.stringify(report.outcomes)}`);
  }
  assert.ok(count(/^bad: /) >= least && count(/^broken connection/) > 0, JSON.stringify(report.outcomes));
  assert.ok(report.prefixHitTokens > 0, 'the prefix cache was never used');
});
