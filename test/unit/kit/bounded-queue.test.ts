import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BoundedQueue } from '#kit/bounded-queue.ts';
import { QuernError } from '#kit/errors.ts';

test('push answers full at the capacity and the order is kept', async () => {
  const queue = new BoundedQueue<number>(2);
  assert.deepEqual(queue.push(1), { ok: true });
  assert.deepEqual(queue.push(2), { ok: true });
  assert.deepEqual(queue.push(3), { ok: false, reason: 'full' });
  assert.equal(await queue.take(), 1);
  assert.deepEqual(queue.push(3), { ok: true });
  assert.equal(await queue.take(), 2);
  assert.equal(await queue.take(), 3);
  assert.equal(queue.poll(), undefined);
});

test('takers are served in the order they came', async () => {
  const queue = new BoundedQueue<number>(1);
  const takers = [queue.take(), queue.take(), queue.take()];
  for (const item of [1, 2, 3]) assert.deepEqual(queue.push(item), { ok: true });
  assert.deepEqual(await Promise.all(takers), [1, 2, 3]);
});

test('an aborted take takes nothing', async () => {
  const queue = new BoundedQueue<number>(1);
  const controller = new AbortController();
  const taking = queue.take({ signal: controller.signal });
  controller.abort(new QuernError('UNAVAILABLE', 'stopping'));
  await assert.rejects(taking, { code: 'UNAVAILABLE' });
  await assert.rejects(queue.take({ signal: controller.signal }), { code: 'UNAVAILABLE' });
  assert.deepEqual(queue.push(7), { ok: true });
  assert.equal(queue.size, 1);
});

test('after close pushes are refused and what waits is still given', async () => {
  const queue = new BoundedQueue<number>(2);
  queue.push(1);
  queue.close();
  queue.close(new Error('too late to matter'));
  assert.deepEqual(queue.push(2), { ok: false, reason: 'closed' });
  const seen: number[] = [];
  for await (const item of queue) seen.push(item);
  assert.deepEqual(seen, [1]);
  assert.equal(await queue.take(), undefined);
});

test('close with an error rejects the waiting taker and later ones', async () => {
  const queue = new BoundedQueue<number>(1);
  const taking = queue.take();
  queue.close(new QuernError('DATA_LOSS', 'gone'));
  await assert.rejects(taking, { code: 'DATA_LOSS' });
  await assert.rejects(queue.take(), { code: 'DATA_LOSS' });
});

test('any order of pushes and polls behaves like an array with a bound', () => {
  const operations = fc.array(fc.option(fc.integer(), { nil: null }), { maxLength: 4000 });
  fc.assert(
    fc.property(operations, fc.integer({ min: 1, max: 2000 }), (steps, capacity) => {
      const queue = new BoundedQueue<number>(capacity);
      const model: number[] = [];
      for (const step of steps) {
        if (step === null) assert.equal(queue.poll(), model.shift());
        else {
          assert.equal(queue.push(step).ok, model.length < capacity);
          if (model.length < capacity) model.push(step);
        }
        assert.equal(queue.size, model.length);
      }
    }),
    { numRuns: 50 },
  );
});

test('a capacity that is no positive integer is a bug', () => {
  for (const capacity of [0, -1, 1.5, Number.NaN]) assert.throws(() => new BoundedQueue(capacity), /positive integer/);
});
