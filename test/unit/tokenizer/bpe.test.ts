import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WordMerger } from '../../../services/tokenizer/bpe.ts';
import { SCANNED_WORD_BYTES_MAX } from '../../../services/tokenizer/limits.ts';
import { MergeTable, NO_MERGE } from '../../../services/tokenizer/merge-table.ts';
import { createRandom } from './support/corpus.ts';

type Merge = { left: number; right: number; product: number };

/** The definition: merge the pair of the lowest rank, the leftmost of equals, until there is none. */
function mergePlainly(merges: readonly Merge[], word: readonly number[]): number[] {
  const symbols = [...word];
  while (true) {
    let best = -1;
    let at = -1;
    for (let i = 0; i + 1 < symbols.length; i += 1) {
      const rank = merges.findLastIndex(({ left, right }) => left === symbols[i] && right === symbols[i + 1]);
      if (rank >= 0 && (best < 0 || rank < best)) [best, at] = [rank, i];
    }
    if (at < 0) return symbols;
    symbols.splice(at, 2, merges[best]!.product);
  }
}

/** Merges in any order, also ones whose parts come later: not only what training makes. */
function randomMerges(random: () => number, letters: number, count: number): Merge[] {
  const merges: Merge[] = [];
  for (let i = 0; i < count; i += 1) {
    const symbol = (): number => Math.floor(random() * (letters + i));
    merges.push({ left: symbol(), right: symbol(), product: letters + i });
  }
  return random() < 0.3 ? merges.toReversed() : merges;
}

const mergeWord = (table: MergeTable, word: readonly number[]): number[] => {
  const symbols = Int32Array.from(word);
  return [...symbols.subarray(0, new WordMerger(table).merge(symbols, word.length))];
};

test('short and long words merge as the definition says, for merges in any order', () => {
  const random = createRandom(3);
  for (let round = 0; round < 600; round += 1) {
    const letters = 2 + Math.floor(random() * 3);
    const merges = randomMerges(random, letters, 1 + Math.floor(random() * 12));
    const table = new MergeTable(merges);
    for (const length of [0, 1, 2, 3, 9, SCANNED_WORD_BYTES_MAX, SCANNED_WORD_BYTES_MAX + 1, 90]) {
      const word = Array.from({ length }, () => Math.floor(random() * letters));
      assert.deepEqual(mergeWord(table, word), mergePlainly(merges, word), JSON.stringify({ merges, word }));
    }
  }
});

test('of two equal pairs the later rank counts', () => {
  const table = new MergeTable([
    { left: 1, right: 2, product: 9 },
    { left: 2, right: 3, product: 8 },
    { left: 1, right: 2, product: 9 },
  ]);
  assert.equal(table.rank(1, 2), 2);
  assert.deepEqual(mergeWord(table, [1, 2, 3]), [1, 8]);
});

test('pairs that have no merge are told apart from those that have one', () => {
  const random = createRandom(5);
  const merges = Array.from({ length: 5000 }, (_, rank) => ({
    left: Math.floor(random() * 100_000),
    right: Math.floor(random() * 100_000),
    product: 100_000 + rank,
  }));
  const table = new MergeTable(merges);
  const ranks = new Map(merges.map(({ left, right }, rank) => [`${left},${right}`, rank]));
  for (const { left, right } of merges) {
    assert.equal(table.rank(left, right), ranks.get(`${left},${right}`));
    assert.equal(table.rank(right, left), ranks.get(`${right},${left}`) ?? NO_MERGE);
    assert.equal(table.rank(left, right + 100_000), NO_MERGE);
  }
});

test('the time for one word grows with its length, not with its square', () => {
  // (0, 0) -> 1, (1, 1) -> 2, ...: a word of zeros merges to the top, n - 1 merges in all.
  const merges = Array.from({ length: 20 }, (_, level) => ({ left: level, right: level, product: level + 1 }));
  const table = new MergeTable(merges);
  const cpuMs = (length: number): number => {
    const symbols = new Int32Array(length);
    const before = process.cpuUsage();
    assert.equal(new WordMerger(table).merge(symbols, length), 1);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
  cpuMs(2 ** 16); // warm
  const small = Math.max(1, cpuMs(2 ** 15));
  const large = cpuMs(2 ** 19);
  // 16 times the length: n log n is 20 times the work, n^2 is 256 times.
  assert(large < 100 * small, `2^15: ${small.toFixed(1)} ms, 2^19: ${large.toFixed(1)} ms of CPU time`);
});
