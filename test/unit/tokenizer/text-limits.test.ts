import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIBRARY_TEXT_BYTES_MAX, RUN_UNITS_MAX } from '../../../services/tokenizer/limits.ts';
import { checkTexts, longestRun } from '../../../services/tokenizer/text-limits.ts';

test('the longest run of blanks or of other characters', () => {
  assert.equal(longestRun(''), 0);
  assert.equal(longestRun('abc'), 3);
  assert.equal(longestRun('ab   \n\tcde'), 5);
  assert.equal(longestRun('ab cdefg hi'), 5);
  assert.equal(longestRun(' '), 1);
});

test('texts are bounded in sum, by the encoder that takes them, and without a break', () => {
  const options = { field: 'text', maxBytes: 8 * 2 ** 20, isByteLevel: true };
  assert.equal(checkTexts(['abc', 'é'], options), 5);
  const refused = { code: 'INVALID_ARGUMENT', details: { reason: 'TEXT_TOO_LONG' } };
  const small = { ...options, maxBytes: 4 };
  assert.throws(
    () => checkTexts(['abc', 'é'], small),
    /^QuernError: text: expected at most 4 bytes of text in a request, got more; send less$/,
  );
  assert.throws(
    () => checkTexts(['x'.repeat(LIBRARY_TEXT_BYTES_MAX + 1)], { ...options, isByteLevel: false }),
    (error: typeof refused) => error.code === refused.code && error.details.reason === 'TEXT_TOO_LONG',
  );
  assert.throws(() => checkTexts(['x'.repeat(RUN_UNITS_MAX + 1)], options), /expected a blank at least every/);
  checkTexts([`${'x'.repeat(RUN_UNITS_MAX)} ${'x'.repeat(10)}`], options);
});
