import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createStepWatch } from '../../../services/engine/step-watch.ts';

const busy = (steps: number) => ({ running: 1, waiting: 0, steps });
const idle = (steps: number) => ({ running: 0, waiting: 0, steps });

test('healthy while steps finish or nothing is to do', () => {
  const watch = createStepWatch(1_000);
  for (let now = 0; now < 10_000; now += 500) assert.ok(watch.look(now, busy(now)));
  for (let now = 10_000; now < 20_000; now += 500) assert.ok(watch.look(now, idle(9_500)));
});

test('unhealthy when work waits and no step finishes, healthy again after one', () => {
  const watch = createStepWatch(1_000);
  assert.ok(watch.look(0, busy(5)));
  assert.ok(watch.look(500, busy(5)));
  assert.ok(watch.look(1_400, busy(5)));
  assert.ok(!watch.look(1_500, busy(5)));
  assert.ok(!watch.look(9_000, { running: 0, waiting: 2, steps: 5 }));
  assert.ok(watch.look(9_500, busy(6)));
});

test('idle time does not count towards a stall', () => {
  const watch = createStepWatch(1_000);
  assert.ok(watch.look(0, idle(5)));
  assert.ok(watch.look(60_000, idle(5)));
  assert.ok(watch.look(60_500, busy(5)));
  assert.ok(watch.look(61_400, busy(5)));
  assert.ok(!watch.look(61_600, busy(5)));
});
