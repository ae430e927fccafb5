// The streamed result is the whole result: for every way of cutting every fixture into 2 and 3 pieces, one unit per piece, and
// random borders of tokens that end inside characters.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Utf8Stream } from '../../../../services/gateway/utf8-stream.ts';
import { corpus, parse } from './support/corpus.ts';

/**
 * Cuts into three pieces are many. Without QUERN_TEST_SPLITS=all (a minute or two on a free core) a long output is cut so that
 * its middle piece is short, and on a grid.
 */
const isExhaustive = process.env.QUERN_TEST_SPLITS === 'all';
const ALL_PAIRS_UNITS_MAX = 32;
const MIDDLE_UNITS_MAX = 2;
const GRID_POINTS = 8;

/** Pairs of cuts of `length` units. */
function* pairs(length: number): Generator<[number, number]> {
  const isAll = isExhaustive || length <= ALL_PAIRS_UNITS_MAX;
  const grid = Math.ceil(length / GRID_POINTS);
  for (let i = 0; i <= length; i += 1) {
    for (let j = i; j <= length; j += 1) {
      if (isAll || j - i <= MIDDLE_UNITS_MAX || (i % grid === 0 && j % grid === 0)) yield [i, j];
    }
  }
}

for (const { format, cases } of corpus) {
  test(`${format}: every fixture, cut everywhere`, () => {
    for (const { name, output, starts_inside: inside } of cases) {
      const whole = parse(format, [output], inside);
      const same = (pieces: string[]): void => {
        const got = parse(format, pieces, inside);
        // Formatting a message for each cut would take longer than parsing it.
        if (JSON.stringify(got) !== JSON.stringify(whole))
          assert.deepEqual(got, whole, `${name}: ${pieces.join(' | ')}`);
      };
      same(output.split('')); // UTF-16 units
      same([...output]);
      for (let i = 0; i <= output.length; i += 1) same([output.slice(0, i), output.slice(i)]);
      for (const [i, j] of pairs(output.length)) same([output.slice(0, i), output.slice(i, j), output.slice(j)]);
    }
  });

  test(`${format}: random tokens that end inside characters`, () => {
    const one = fc.record({
      at: fc.nat(cases.length - 1),
      sizes: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 40 }),
    });
    fc.assert(
      fc.property(one, ({ at, sizes }) => {
        const { output, starts_inside: inside } = cases[at]!;
        const bytes = Buffer.from(output);
        const utf8 = new Utf8Stream();
        const pieces: string[] = [];
        for (let from = 0, i = 0; from < bytes.length; i += 1) {
          const size = sizes[i % sizes.length]!;
          pieces.push(utf8.push(bytes.subarray(from, from + size)));
          from += size;
        }
        pieces.push(utf8.end());
        assert.deepEqual(parse(format, pieces, inside), parse(format, [output], inside));
      }),
      { numRuns: 300 },
    );
  });
}
