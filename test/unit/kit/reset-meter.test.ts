import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createResetMeter } from '#kit/rpc/reset-meter.ts';

function metered(options: { burst: number; perSecond: number; keysMax?: number }) {
  let nowMs = 0;
  const meter = createResetMeter({ ...options, now: () => nowMs });
  const advance = (ms: number): void => {
    nowMs += ms;
  };
  return { meter, advance };
}

test('a burst passes, the next waits until the rate allows one', () => {
  const { meter, advance } = metered({ burst: 10, perSecond: 5 });
  for (let count = 0; count < 9; count += 1) meter.charge('a');
  assert.equal(meter.waitMs('a'), 0);
  meter.charge('a');
  assert.equal(meter.waitMs('a'), 200);
  assert.equal(meter.waitMs('b'), 0, 'another principal is not touched');
  advance(200);
  assert.equal(meter.waitMs('a'), 0);
});

test('who goes on cancelling waits longer, at most about a minute', () => {
  const { meter, advance } = metered({ burst: 1, perSecond: 10 });
  for (let count = 0; count < 100_000; count += 1) meter.charge('a');
  const waitMs = meter.waitMs('a');
  assert.ok(waitMs >= 60_000 && waitMs <= 60_200, String(waitMs));
  advance(waitMs);
  assert.equal(meter.waitMs('a'), 0);
});

test('a full hour of the allowed rate is never refused', () => {
  const { meter, advance } = metered({ burst: 20, perSecond: 10 });
  for (let tick = 0; tick < 36_000; tick += 1) {
    meter.charge('a');
    advance(100);
    assert.equal(meter.waitMs('a'), 0);
  }
});

test('the principal idle for longest is forgotten first', () => {
  const { meter } = metered({ burst: 1, perSecond: 1, keysMax: 2 });
  for (const key of ['a', 'b', 'a', 'c']) meter.charge(key);
  assert.ok(meter.waitMs('a') > 0);
  assert.equal(meter.waitMs('b'), 0);
});
