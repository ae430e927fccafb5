/** Intervals and tests. All intervals are of 95 %. */
import { percentile } from '../bench/report.ts';
import { seededRandom } from './random.ts';

/** `n`: how many observations. */
export type Estimate = { value: number; low: number; high: number; n: number };

/** The 97.5 % point of the normal distribution. */
const Z = 1.959963984540054;
const RESAMPLES = 2000;
/** Of more values the bootstrap takes seconds, and differs from the normal interval by less than its own noise. */
const BOOTSTRAP_VALUES_MAX = 2000;

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

/** A mean by the percentile bootstrap (Efron 1979), 2,000 resamples that `seed` decides; of very many values by the normal interval. */
export function bootstrapMean(values: readonly number[], seed: number): Estimate {
  const n = values.length;
  if (n === 0) return { value: 0, low: 0, high: 0, n };
  const value = meanOf(values);
  if (n > BOOTSTRAP_VALUES_MAX) {
    const squares = values.reduce((sum, one) => sum + (one - value) ** 2, 0);
    const half = (Z * Math.sqrt(squares / (n - 1))) / Math.sqrt(n);
    return { value, low: value - half, high: value + half, n };
  }
  const random = seededRandom(seed);
  const means = Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += values[random.below(n)] as number;
    return sum / n;
  });
  return { value, low: percentile(means, 2.5), high: percentile(means, 97.5), n };
}

/** Of `n` pairs: true in both, only later, only earlier, in neither. */
export type PairCounts = { both: number; gained: number; lost: number; neither: number };

/**
 * How much larger the later share of pairs is, by Newcombe's interval for paired data (1998, method 10): Wilson's intervals of both
 * shares, and their correlation. Where few pairs changed a bootstrap would know too little of them.
 */
export function pairedDifference({ both, gained, lost, neither }: PairCounts): Estimate {
  const n = both + gained + lost + neither;
  if (n === 0) return { value: 0, low: 0, high: 0, n };
  const later = proportion(both + gained, n);
  const earlier = proportion(both + lost, n);
  const variance = (both + gained) * (lost + neither) * (both + lost) * (gained + neither);
  const covariance = both * neither - gained * lost;
  const corrected = covariance > 0 ? Math.max(0, covariance - n / 2) : covariance;
  const phi = variance === 0 ? 0 : corrected / Math.sqrt(variance);
  const joined = (a: number, b: number): number => Math.sqrt(a * a - 2 * phi * a * b + b * b);
  const value = (gained - lost) / n;
  return {
    ...{ value, n },
    low: value - joined(later.value - later.low, earlier.high - earlier.value),
    high: value + joined(later.high - later.value, earlier.value - earlier.low),
  };
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
