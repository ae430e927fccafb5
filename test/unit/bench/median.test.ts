// Intervals of a median by the sign test: the counts that stay outside are those of its tables.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { medianInterval } from '../../bench/support/median.ts';

/** 1 to n, in an order that is not theirs. */
const shuffled = (n: number): number[] => Array.from({ length: n }, (_, i) => ((i * 7) % n) + 1);

test('the bounds are those that the binomial distribution leaves at 95 %', () => {
  assert.deepEqual(medianInterval(shuffled(6)), { median: 3.5, low: 1, high: 6, n: 6 });
  assert.deepEqual(medianInterval(shuffled(9)), { median: 5, low: 2, high: 8, n: 9 });
  assert.deepEqual(medianInterval(shuffled(20)), { median: 10.5, low: 6, high: 15, n: 20 });
  assert.deepEqual(medianInterval(shuffled(40)), { median: 20.5, low: 14, high: 27, n: 40 });
});

test('of five values or fewer no bound is known', () => {
  const { median, low, high } = medianInterval([3, 1, 2, 5, 4]);
  assert.deepEqual([median, low, high], [3, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
  assert.ok(Number.isNaN(medianInterval([]).median));
});
