import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { Admission } from '../../../services/tools/admission.ts';

function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const never = new AbortController().signal;
const settle = () => new Promise((resolve) => setImmediate(resolve));

test('whatever comes and goes: bounds hold, nobody waits beside a free place, everybody gets one', async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = generator(seed);
    const bounds = { perTenant: 1 + random(3), perHost: 2 + random(5), queue: random(12) };
    const admission = new Admission(bounds);
    const running: { tenant: string; leave: () => void }[] = [];
    const waiting = new Set<string>();
    let [admitted, refused, aborted, asked] = [0, 0, 0, 0];
    for (let step = 0; step < 200; step++) {
      if (random(3) > 0) {
        const tenant = `t${random(4)}`;
        const stop = new AbortController();
        const id = `${tenant} ${step}`;
        asked += 1;
        waiting.add(id);
        admission.enter(tenant, stop.signal).then(
          (leave) => {
            waiting.delete(id);
            admitted += 1;
            running.push({ tenant, leave });
          },
          (error: unknown) => {
            waiting.delete(id);
            if (error instanceof QuernError && error.details.reason === 'TOOL_QUEUE_FULL') refused += 1;
            else aborted += 1;
          },
        );
        if (random(10) === 0) stop.abort(new Error('gone'));
      } else if (running.length > 0) {
        const [one] = running.splice(random(running.length), 1);
        one!.leave();
        one!.leave(); // twice is as once
      }
      await settle();
      assert.ok(running.length <= bounds.perHost);
      assert.equal(admission.running, running.length);
      assert.ok(admission.queued <= bounds.queue);
      const of = (tenant: string) => running.filter((one) => one.tenant === tenant).length;
      for (const id of waiting) {
        const tenant = id.split(' ')[0]!;
        assert.ok(of(tenant) <= bounds.perTenant);
        assert.ok(
          running.length === bounds.perHost || of(tenant) === bounds.perTenant,
          `seed ${seed}: ${id} waits for nothing`,
        );
      }
    }
    while (running.length > 0) {
      running.pop()!.leave();
      await settle();
    }
    assert.equal(waiting.size, 0);
    assert.equal(admission.queued, 0);
    assert.equal(admitted + refused + aborted, asked);
  }
});

test('tenants take turns: one with a hundred calls does not hold up one with a single call', async () => {
  const admission = new Admission({ perTenant: 1, perHost: 1, queue: 200 });
  const order: string[] = [];
  const leave = await admission.enter('first', never);
  const all = [...Array.from({ length: 100 }, () => 'many'), 'single'].map(async (tenant) => {
    const done = await admission.enter(tenant, never);
    order.push(tenant);
    await settle();
    done();
  });
  leave();
  await Promise.all(all);
  assert.ok(order.indexOf('single') <= 1, `place ${order.indexOf('single')}`);
});
