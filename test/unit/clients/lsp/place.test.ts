import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Documents } from '../../../../clients/lsp/core/documents.ts';
import { PREFIX_CHARS_MAX, PREFIX_LINES_MAX, SUFFIX_CHARS_MAX } from '../../../../clients/lsp/core/limits.ts';
import { placeOf, windowStartLine } from '../../../../clients/lsp/core/place.ts';
import { wantsSingleLine } from '../../../../clients/lsp/core/query.ts';
import { defaultSettings } from '../../../../clients/lsp/core/settings.ts';

const uri = 'file:///a.py';

function placeIn(text: string, line: number, character: number) {
  const documents = new Documents();
  documents.open(uri, 'python', 1, text);
  const document = documents.get(uri);
  assert(document);
  const place = placeOf(document, { line, character }, null);
  assert(place);
  return place;
}

test('the window starts on a grid: it moves once in 64 lines, and holds 192 to 255 lines before the cursor', () => {
  for (const line of [0, 63, 200, 255]) assert.equal(windowStartLine(line), 0);
  assert.deepEqual(
    [256, 319, 320, 1_000].map((line) => windowStartLine(line)),
    [64, 64, 128, 768],
  );
  for (let line = 0; line < 2_000; line++) {
    const before = line - windowStartLine(line);
    assert(before < PREFIX_LINES_MAX && (line < 192 || before >= 192));
  }
});

test('typing on keeps the beginning of the prefix, line after line', () => {
  const text = Array.from({ length: 2_000 }, (_, i) => `value_${i} = compute(${i})`).join('\n');
  const heads = new Set<string>();
  for (let line = 700; line < 764; line++) heads.add(placeIn(text, line, 0).prefix.slice(0, 20));
  assert(heads.size <= 2, `${heads.size} beginnings within 64 lines`);
});

test('long lines are cut on a grid of characters, and never within a character', () => {
  const wide = placeIn(`${'𝒳'.repeat(40_000)}x = `, 0, 80_004);
  assert(wide.prefix.length <= PREFIX_CHARS_MAX);
  assert(wide.suffix.length <= SUFFIX_CHARS_MAX);
  assert(!/^[\udc00-\udfff]/.test(wide.prefix));
  const more = placeIn(`${'𝒳'.repeat(40_000)}x = y`, 0, 80_005);
  assert(more.prefix.startsWith(wide.prefix), 'the next key moves nothing');
});

test('edits of every kind leave the text that a plain splice does', () => {
  const documents = new Documents();
  let text = 'a\r\nbc\n𝒳d\n\nlast';
  documents.open(uri, 'python', 1, text);
  let seed = 11;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  for (let version = 2; version < 500; version++) {
    const document = documents.get(uri);
    assert(document);
    const lines = text.split(/\r\n|\n/);
    const line = random(lines.length);
    const last = Math.min(lines.length - 1, line + random(3));
    const start = { line, character: random((lines[line] ?? '').length + 1) };
    const end = { line: last, character: last === line ? start.character : random((lines[last] ?? '').length + 1) };
    const inserted = ['x', '\n', '\r\n', '', 'two\nlines', '𝒳'][random(6)] ?? '';
    const from = document.offsetAt(start);
    const to = document.offsetAt(end);
    text = text.slice(0, from) + inserted + text.slice(to);
    assert(documents.change(uri, version, [{ range: { start, end }, text: inserted }]));
    assert.equal(documents.get(uri)?.text, text);
    if (text.length > 400) text = 'again';
    if (text === 'again') documents.change(uri, version, [{ text }]);
  }
  assert.equal(documents.change('file:///other.py', 1, []), false);
});

test('one line in the middle of a line, several where a block may begin', () => {
  const single = (text: string, invoked = false): boolean => {
    const [before = '', after = ''] = text.split('|');
    const lines = before.split('\n');
    const place = placeIn(before + after, lines.length - 1, (lines.at(-1) ?? '').length);
    return wantsSingleLine(place, defaultSettings, invoked);
  };
  assert.equal(single('x = |'), true);
  assert.equal(single('x = |', true), false);
  assert.equal(single('def f():\n    |'), false);
  assert.equal(single('if (a) {|}'), false);
  assert.equal(single('x = | + y', true), true);
});
