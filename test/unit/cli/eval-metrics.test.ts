/** The figures of `quern eval infill` with values computed by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { editDistance, editSimilarity, identifierMatch, score } from '../../../services/cli/eval/metrics.ts';
import { openSyntax } from '../../../services/cli/eval/syntax.ts';

test('edit distance counts insertions, deletions and replacements', () => {
  assert.equal(editDistance('kitten', 'sitting'), 3);
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(editDistance('flaw', 'lawn'), 2);
  assert.equal(editSimilarity('kitten', 'sitting'), 1 - 3 / 7);
  assert.equal(editSimilarity('', ''), 1);
  assert.equal(editSimilarity('abc', ''), 0);
});

test('identifiers match by order for the exact figure and as sets for precision and recall', () => {
  assert.deepEqual(identifierMatch(['a', 'b', 'a'], ['a', 'b', 'a']), {
    ...{ identifierExact: true, identifierPrecision: 1, identifierRecall: 1, identifierF1: 1 },
  });
  const swapped = identifierMatch(['a', 'b'], ['b', 'a']);
  assert.deepEqual([swapped.identifierExact, swapped.identifierF1], [false, 1]);
  const partly = identifierMatch(['a', 'b', 'c'], ['a', 'x']);
  assert.deepEqual([partly.identifierPrecision, partly.identifierRecall], [1 / 2, 1 / 3]);
  assert.ok(Math.abs(partly.identifierF1 - 2 / 5) < 1e-12);
  assert.equal(identifierMatch(['a'], []).identifierF1, 0);
});

test('a fill is scored in its file: parse, identifiers and text', async (t) => {
  const syntax = await openSyntax();
  t.after(() => syntax.close());
  const text = 'def area(width, height):\n    return width * height\n\n\nprint(area(2, 3))\n';
  const start = text.indexOf('return');
  const end = text.indexOf('\n\n\nprint');
  const whole = await syntax.read(text, 'python');
  assert.equal(whole.errors, 0);
  const hole = { text, language: 'python', start, end };
  const right = await score(hole, 'return width * height ', whole, syntax);
  assert.deepEqual([right.exact, right.editSimilarity, right.parses, right.identifierExact], [true, 1, true, true]);
  const other = await score(hole, 'return height', whole, syntax);
  // "return width * height" is 21 units, of which "width * " has to go.
  assert.deepEqual([other.exact, other.editSimilarity, other.parses], [false, 1 - 8 / 21, true]);
  assert.deepEqual([other.identifierExact, other.identifierPrecision, other.identifierRecall], [false, 1, 0.5]);
  const broken = await score(hole, 'return (width * height', whole, syntax);
  assert.deepEqual([broken.parses, broken.identifierExact], [false, true], 'names are read out of what does not parse');
});

test('a file that had errors before is not held against the fill', async (t) => {
  const syntax = await openSyntax();
  t.after(() => syntax.close());
  const text = 'const a = ;\nconst total = sum(values);\n';
  const whole = await syntax.read(text, 'typescript');
  assert.ok(whole.errors > 0);
  const start = text.indexOf('sum');
  const hole = { text, language: 'typescript', start, end: text.length - 1 };
  assert.equal((await score(hole, 'add(values);', whole, syntax)).parses, true);
  assert.equal((await score(hole, 'add(values;', whole, syntax)).parses, false);
  assert.equal((await score(hole, '', whole, syntax)).parsesEmpty, false);
});
