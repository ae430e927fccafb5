import assert from 'node:assert/strict';
import { test } from 'node:test';
import { affinityKey, pickReplica } from '../../../services/gateway/replica-picker.ts';

const replicas = (count: number, inFlight = 0) =>
  Array.from({ length: count }, (_, i) => ({ name: `10.0.0.${i}:50053`, ready: true, inFlight }));
const prompt = (seed: number, length = 64): number[] =>
  Array.from({ length }, (_, i) => (seed * 7919 + i * 31) % 50000);

test('one head, one replica; typing on changes nothing', () => {
  const four = replicas(4);
  const head = prompt(1);
  const first = pickReplica(four, affinityKey('salt', head));
  for (let n = 0; n < 10; n += 1) {
    assert.equal(pickReplica(four, affinityKey('salt', [...head, ...prompt(n, n)])), first);
  }
});

test('heads spread evenly, and losing a replica moves only its own', () => {
  const four = replicas(4);
  const counts = new Map<string, number>();
  let moved = 0;
  for (let i = 0; i < 4000; i += 1) {
    const key = affinityKey('salt', prompt(i));
    const chosen = pickReplica(four, key)!;
    counts.set(chosen.name, (counts.get(chosen.name) ?? 0) + 1);
    const without = pickReplica(
      four.map((r, at) => ({ ...r, ready: at !== 3 })),
      key,
    )!;
    if (chosen.name !== four[3]!.name && without.name !== chosen.name) moved += 1;
  }
  for (const count of counts.values()) assert.ok(count > 850 && count < 1150, `${[...counts]}`);
  assert.equal(moved, 0);
});

test('tenants with different salts do not share a place by head alone', () => {
  const four = replicas(4);
  const places = new Set(
    Array.from({ length: 50 }, (_, i) => pickReplica(four, affinityKey(`salt${i}`, prompt(1)))!.name),
  );
  assert.ok(places.size > 1);
});

test('a hot head spills over before one replica piles up', () => {
  const loads = replicas(4).map((r) => ({ ...r }));
  const key = affinityKey('salt', prompt(1));
  for (let i = 0; i < 100; i += 1) pickReplica(loads, key)!.inFlight += 1;
  const most = Math.max(...loads.map((r) => r.inFlight));
  assert.ok(most <= Math.ceil((100 / 4) * 1.25) + 1, `${loads.map((r) => r.inFlight)}`);
});

test('nothing ready: null', () => {
  assert.equal(
    pickReplica(
      replicas(2).map((r) => ({ ...r, ready: false })),
      1,
    ),
    null,
  );
  assert.equal(pickReplica([], 1), null);
});
