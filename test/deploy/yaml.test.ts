import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readYaml } from './yaml.ts';

test('mappings, sequences, scalars, flow and text blocks', () => {
  const text = `# head
a: 1
"b c": 'it''s' # tail
list:
  - x
  - y: 2
    z: [1, 'two', {k: v, n: 3}]
  -
    - inner
same:
- p
- q: "a\\nb # no comment"
folded: >-
  one
  two # kept
literal: |
  one

    two
url: http://h:1/p#frag
empty:
yes: true
`;
  assert.deepEqual(readYaml(text), {
    a: 1,
    'b c': "it's",
    list: ['x', { y: 2, z: [1, 'two', { k: 'v', n: 3 }] }, ['inner']],
    same: ['p', { q: 'a\nb # no comment' }],
    folded: 'one two # kept',
    literal: 'one\n\n  two\n',
    url: 'http://h:1/p#frag',
    empty: null,
    yes: true,
  });
});

test('what is wrong is named with its line', () => {
  for (const [text, expected] of [
    ['a: 1\na: 2', /line 2: "a" stands there twice/],
    ['a:\n\t- b', /line 2: a tab/],
    ['a: 1\n  b: 2', /line 2/],
    ['a: [1, 2', /line 1: a list/],
    ['a: &x 1', /line 1: anchors/],
    ['a: 1\nb', /line 2/],
    ["a: 'x' y", /line 1/],
  ] as const) {
    assert.throws(() => readYaml(text), expected, text);
  }
});
