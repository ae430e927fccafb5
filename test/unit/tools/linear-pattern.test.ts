import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { linearPattern } from '../../../services/tools/linear-pattern.ts';

/** Patterns of the subset, small enough that the engine's own backtracking ends. */
const patterns: fc.Arbitrary<string> = fc.letrec<{ choice: string; atom: string; sequence: string }>((tie) => ({
  choice: fc.array(tie('sequence'), { minLength: 1, maxLength: 2 }).map((parts) => parts.join('|')),
  sequence: fc
    .array(fc.tuple(tie('atom'), fc.constantFrom('', '', '*', '+', '?', '{2}', '{1,2}', '{0,1}', '{1,}', '*?')), {
      maxLength: 3,
    })
    .map((parts) => parts.map(([atom, sign]) => (/^(?:\^|\$|\\[bB])$/.test(atom) ? atom : atom + sign)).join('')),
  atom: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constantFrom(
      'a',
      'b',
      '.',
      '\\d',
      '\\w',
      '\\s',
      '[ab]',
      '[^a]',
      '[\\]b-]',
      '\\p{Lu}',
      'ä',
      '\\u{1F600}',
      '\\.',
      '^',
      '$',
      '\\b',
      '\\B',
    ),
    tie('choice').map((inner) => `(${inner})`),
    tie('choice').map((inner) => `(?:${inner})`),
  ),
})).choice;

const texts = fc.string({
  unit: fc.constantFrom('a', 'b', 'A', '1', ' ', '.', '-', ']', 'ä', '😀', '\n', '_'),
  maxLength: 6,
});

test('it finds what the engine finds', () => {
  fc.assert(
    fc.property(
      patterns.filter((source) => source.length <= 60),
      fc.array(texts, { minLength: 1, maxLength: 5 }),
      (source, samples) => {
        const own = linearPattern(source); // the nesting of at most 60 characters stays below the bound
        const other = new RegExp(source, 'u');
        for (const text of samples) {
          assert.equal(own.test(text), other.test(text), `${other} on ${JSON.stringify(text)}`);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('what is outside the subset is refused with the reason', () => {
  const cases: [string, RegExp][] = [
    ['(?=a)', /lookaround/],
    ['(?<!a)b', /lookaround/],
    ['(?i:a)', /flags/],
    ['(a)\\1', /back references/],
    ['(?<n>a)\\k<n>', /back references/],
    ['a{1,5000}', /larger than 1000 steps/],
    ['((a{30}){30}){30}', /larger than 1000 steps/],
    [`${'('.repeat(40)}a${')'.repeat(40)}`, /groups deeper/],
    ['x'.repeat(2_000), /longer than 1024/],
    ['[z-a]', /order/i],
    ['(', /./],
    ['{', /./],
    ['\\-', /./],
  ];
  for (const [source, message] of cases) {
    assert.throws(() => linearPattern(source), { code: 'INVALID_ARGUMENT', message });
  }
});

test('named groups, and empty repetitions, are in the subset', () => {
  assert(linearPattern('^(?<year>\\d{4})-(?<month>\\d\\d)$').test('2026-01'));
  assert(linearPattern('^(?:){1000000}$').test(''));
  assert(linearPattern('^(?:a{0}){3}b$').test('b'));
  assert(!linearPattern('^[^\\n]+$').test('\n'));
});
