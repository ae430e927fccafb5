/** Intervals and tests. All intervals are of 95 %. */
import { percentile } from '../bench/report.ts';
import { seededRandom } from './random.ts';

export type Estimate = { value: number; low: number; high: number /** Observations. */; n: number };

/** The 97.5 % point of the normal distribution. */
const Z = 1.959963984540054;
const RESAMPLES = 2000;

/** A share of `n` by Wilson's score interval (1927); 0..1. */
export function proportion(hits: number, n: number): Estimate {
  if (n === 0) return { value: 0, low: 0, high: 0, n };
  const share = hits / n;
  const scale = 1 + (Z * Z) / n;
  const centre = (share + (Z * Z) / (2 * n)) / scale;
  const half = (Z / scale) * Math.sqrt((share * (1 - share)) / n + (Z * Z) / (4 * n * n));
  return { value: share, low: Math.max(0, centre - half), high: Math.min(1, centre + half), n };
}

export const meanOf = (values: readonly number[]): number =>
  values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;

/** A mean by the percentile bootstrap (Efron 1979), 2,000 resamples that `seed` decides. */
export function bootstrapMean(values: readonly number[], seed: number): Estimate {
  const n = values.length;
  if (n === 0) return { value: 0, low: 0, high: 0, n };
  const random = seededRandom(seed);
  const means = Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += values[random.below(n)] as number;
    return sum / n;
  });
  return { value: meanOf(values), low: percentile(means, 2.5), high: percentile(means, 97.5), n };
}

/** The exact two-sided McNemar test: how likely so uneven a split of `gained + lost` changed pairs is by chance alone. */
export function mcNemar(gained: number, lost: number): number {
  const changed = gained + lost;
  if (changed === 0) return 1;
  // Terms of the binomial distribution with one half, in logarithms: the powers underflow beyond a thousand pairs.
  let term = -changed * Math.LN2;
  let tail = Math.exp(term);
  for (let k = 1; k <= Math.min(gained, lost); k++) {
    term += Math.log(changed - k + 1) - Math.log(k);
    tail += Math.exp(term);
  }
  return Math.min(1, 2 * tail);
}
