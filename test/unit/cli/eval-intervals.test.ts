/** Intervals and tests of `quern eval` against published values and ones computed by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrapMean, mcNemar, pairedDifference, proportion } from '../../../services/cli/eval/intervals.ts';
import { seededRandom } from '../../../services/cli/eval/random.ts';

test("Wilson's interval gives the values of Newcombe's comparison of 1998", () => {
  const cases: [hits: number, n: number, low: number, high: number][] = [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ];
  for (const [hits, n, low, high] of cases) {
    const found = proportion(hits, n);
    assert.equal(found.value, hits / n);
    assert.ok(
      Math.abs(found.low - low) < 5e-5 && Math.abs(found.high - high) < 5e-5,
      `${hits}/${n}: ${JSON.stringify(found)}`,
    );
  }
  assert.equal(proportion(20, 20).high, 1);
  assert.deepEqual(proportion(0, 0), { value: 0, low: 0, high: 0, n: 0 });
});

test('where the bootstrap ends the normal interval goes on, also for what is mostly 0', () => {
  const values = Array.from({ length: 2001 }, (_, at) => (at % 20 === 0 ? (at % 7) / 7 : 0));
  const [normal, bootstrap] = [bootstrapMean(values, 1), bootstrapMean(values.slice(1), 1)];
  assert.deepEqual(bootstrapMean(values, 2), normal, 'no seed decides it');
  const apart = [normal.low - bootstrap.low, normal.high - bootstrap.high, normal.value - bootstrap.value];
  assert.ok(Math.max(...apart.map(Math.abs)) < 0.1 * (normal.high - normal.low), JSON.stringify({ normal, bootstrap }));
});

test('the bootstrap is decided by its seed and comes near the normal interval for many values', () => {
  const values = Array.from({ length: 1000 }, (_, at) => at % 2);
  const found = bootstrapMean(values, 7);
  assert.deepEqual(found, bootstrapMean(values, 7));
  assert.notDeepEqual(found, bootstrapMean(values, 8));
  assert.equal(found.value, 0.5);
  // 1.96 * 0.5 / sqrt(1000) = 0.031; the bootstrap's own noise with 2,000 resamples is about 0.001.
  assert.ok(Math.abs(found.low - 0.469) < 0.005 && Math.abs(found.high - 0.531) < 0.005, JSON.stringify(found));
  assert.deepEqual(bootstrapMean([0.25, 0.25, 0.25], 1), { value: 0.25, low: 0.25, high: 0.25, n: 3 });
  assert.deepEqual(bootstrapMean([], 1), { value: 0, low: 0, high: 0, n: 0 });
});

test("Newcombe's interval for pairs gives published values, and is no point where nothing changed", () => {
  const cases: [both: number, gained: number, lost: number, neither: number, low: number, high: number][] = [
    [36, 12, 2, 0, 0.0569, 0.3404], // Newcombe 1998
    [14, 5, 0, 22, 0.0115, 0.2265], // Altman and others 2000, table 6.2
    [1, 1, 7, 12, -0.5069, -0.0256], // Fagerland and others 2014, airway reactivity
  ];
  for (const [both, gained, lost, neither, low, high] of cases) {
    const found = pairedDifference({ both, gained, lost, neither });
    assert.equal(found.value, (gained - lost) / found.n);
    assert.ok(Math.abs(found.low - low) < 5e-5 && Math.abs(found.high - high) < 5e-5, JSON.stringify(found));
  }
  const same = pairedDifference({ both: 5, gained: 0, lost: 0, neither: 295 });
  assert.ok(same.value === 0 && same.low < -0.005 && same.high > 0.005, JSON.stringify(same));
  assert.deepEqual(pairedDifference({ both: 0, gained: 0, lost: 0, neither: 0 }), { value: 0, low: 0, high: 0, n: 0 });
});

test("McNemar's exact test doubles the binomial tail", () => {
  assert.equal(mcNemar(0, 0), 1);
  assert.ok(Math.abs(mcNemar(1, 9) - 22 / 1024) < 1e-12); // 2 * (1 + 10) / 2^10
  assert.ok(Math.abs(mcNemar(5, 0) - 2 / 32) < 1e-12);
  assert.equal(mcNemar(5, 5), 1);
  assert.ok(mcNemar(700, 1300) < 1e-30 && mcNemar(700, 1300) > 0, 'no power underflows');
});

test('random numbers repeat by seed and fill their range', () => {
  const draw = (seed: number): number[] => {
    const random = seededRandom(seed);
    return Array.from({ length: 3000 }, () => random.below(3));
  };
  assert.deepEqual(draw(1), draw(1));
  assert.notDeepEqual(draw(1), draw(2));
  for (const value of [0, 1, 2]) {
    const share = draw(1).filter((one) => one === value).length / 3000;
    assert.ok(Math.abs(share - 1 / 3) < 0.04, `${value}: ${share}`);
  }
});
