import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatNarrowTable, formatTable, wrapped } from '../../../services/cli/table.ts';

test('columns are as wide as their widest cell', () => {
  const text = formatTable(
    ['a', 'bb'],
    [
      ['xyz', ''],
      ['', 'q'],
    ],
  );
  assert.equal(text, 'a    bb\n---  --\nxyz\n     q\n');
});

test('lines break between words, and a word that is too long has a line of its own', () => {
  assert.deepEqual(wrapped('one two three', 7), ['one two', 'three']);
  assert.deepEqual(wrapped('a /a/very/long/path b', 6), ['a', '/a/very/long/path', 'b']);
  assert.deepEqual(wrapped('', 6), ['']);
});

test('a narrow table breaks lists at commas and its last column between words', () => {
  const rows = [
    ['gateway', 'http://h:1, h:2', 'it serves the models that were named'],
    ['x', '', ''],
  ];
  assert.equal(
    formatNarrowTable(['part', 'where', 'what'], rows, 45),
    [
      'part     where       what',
      '-------  ----------  ------------------------',
      'gateway  http://h:1  it serves the models',
      '         h:2         that were named',
      'x',
      '',
    ]
      .join('\n')
      .replace('------------------------', '-'.repeat(20)),
  );
});
