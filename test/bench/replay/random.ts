// Numbers that look random and are the same in every run, for the same words.

export type Random = {
  /** 0 <= n < 1. */
  next(): number;
  /** A whole number, 0 <= n < `below`. */
  below(below: number): number;
  pick<T>(list: readonly T[]): T;
  /** `median` times e^(spread * a normally distributed number). */
  lognormal(median: number, spread: number): number;
};

/** FNV-1a over the words. */
function hashOf(words: readonly (string | number)[]): number {
  let hash = 0x811c9dc5;
  for (const char of words.join('\0')) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  return hash >>> 0;
}

/** Mulberry32. */
export function seeded(...words: (string | number)[]): Random {
  let state = hashOf(words);
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const below = (bound: number): number => Math.floor(next() * bound);
  return {
    next,
    below,
    pick: (list) => list[below(list.length)]!,
    lognormal: (median, spread) => median * Math.exp(spread * normal()),
  };
}
