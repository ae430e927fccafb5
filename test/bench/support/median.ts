// The median of differences between neighbouring rounds, and how sure it is.

/** Bounds of the median at 95 % or more, without a word on the distribution; infinite where there are too few values. */
export type MedianInterval = { median: number; low: number; high: number; n: number };

const LEVEL = 0.95;

/** How many of `n` sorted values may lie outside of the interval at each end, by the binomial distribution of 1/2; -1: none is enough. */
function outside(n: number): number {
  let count = -1;
  let chance = 0.5 ** n;
  for (let below = chance; 2 * below <= 1 - LEVEL; below += chance) {
    count += 1;
    chance *= (n - count) / (count + 1);
  }
  return count;
}

export function medianInterval(values: readonly number[]): MedianInterval {
  const n = values.length;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (i: number): number => sorted[i] ?? Number.NaN;
  const median = n % 2 === 1 ? at((n - 1) / 2) : (at(n / 2 - 1) + at(n / 2)) / 2;
  const out = outside(n);
  if (out < 0) return { median, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY, n };
  return { median, low: at(out), high: at(n - 1 - out), n };
}
