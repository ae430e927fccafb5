/** What fits into a model: the window of text that is sent, and the tokens of an answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Documents } from '../../../../clients/lsp/core/documents.ts';
import {
  PREFIX_CHARS_MAX,
  PREFIX_CHARS_READ,
  SUFFIX_CHARS_MAX,
  SUFFIX_CHARS_READ,
} from '../../../../clients/lsp/core/limits.ts';
import { placeOf } from '../../../../clients/lsp/core/place.ts';
import { roomFor, WIDEST, type Window } from '../../../../clients/lsp/core/room.ts';

const model = 'mini';
const room = (contextLength: number, infillPromptTokens: number, maxTokens = 64) =>
  roomFor({ model, contextLength, infillPromptTokens }, maxTokens);

/** By the estimate. */
const tokensOf = ({ prefixChars, suffixChars }: Window): number => (prefixChars + suffixChars) / 4;

test('where nothing bounds it, all of the window is sent and the settings are asked for', () => {
  for (const known of [room(0, 0, 1_024), room(32_768, 0, 1_024), room(32_768, 8_192, 1_024)])
    assert.deepEqual(known, { window: WIDEST, maxTokens: 1_024, narrowed: null });
  assert.deepEqual([WIDEST.prefixChars, WIDEST.suffixChars], [PREFIX_CHARS_MAX, SUFFIX_CHARS_MAX]);
  assert.deepEqual([WIDEST.gridLines, WIDEST.gridChars], [64, 4_096]);
});

test('what a model is best given sizes the window, three parts before and one behind, down to what is read otherwise', () => {
  const half = room(32_768, 4_096).window;
  assert.deepEqual([half.prefixChars, half.suffixChars, half.gridLines], [12_288, 4_096, 64]);
  for (const tokens of [64, 448, 1_024]) {
    const { window, narrowed } = room(2_048, tokens);
    assert.deepEqual([window.prefixChars, window.suffixChars], [PREFIX_CHARS_READ, SUFFIX_CHARS_READ]);
    assert.equal(window.gridLines, 16);
    assert.equal(narrowed, null, 'it fits into the context');
  }
});

test('never more than the context holds: the window gives way to the answer, the answer to half of the context', () => {
  const small = room(2_048, 0);
  assert(tokensOf(small.window) <= 2_048 - 64 && tokensOf(small.window) > 1_900);
  assert.equal(small.maxTokens, 64);
  assert.match(
    small.narrowed ?? '',
    /^maxTokens \(64\) and about 8192 tokens of text around .* into the 2048 tokens of mini: 64 and 1984 are asked for$/,
  );
  const long = room(2_048, 448, 4_096);
  assert.equal(long.maxTokens, 1_024);
  assert(tokensOf(long.window) <= 1_024);
  assert.match(long.narrowed ?? '', /^maxTokens \(4096\) and about 1536 .*: 1024 and 1024 are asked for$/);
  for (let context = 1; context < 200; context++) {
    const { window, maxTokens } = room(context, 0, 64);
    assert(maxTokens >= 1 && tokensOf(window) + maxTokens <= Math.max(1, context));
    assert(window.gridLines >= 1 && window.gridChars >= 1);
  }
});

test('a small window moves once in some lines, by its grid, and keeps its size', () => {
  const documents = new Documents();
  const text = Array.from({ length: 600 }, (_, i) => `    value_${i} = compute(${i}, total)`).join('\n');
  documents.open('file:///a.py', 'python', 1, text);
  const document = documents.get('file:///a.py');
  assert(document);
  const { window } = room(2_048, 448);
  const starts: number[] = [];
  for (let line = 300; line < 364; line++) {
    const place = placeOf(document, { line, character: 4 }, null, window);
    assert(place);
    assert(place.prefix.length <= window.prefixChars && place.prefix.length > 0.75 * window.prefixChars);
    assert(place.suffix.length <= window.suffixChars);
    starts.push(Number(/value_(\d+)/.exec(place.prefix)?.[1]));
  }
  assert(starts.every((start) => start % window.gridLines === 0));
  assert(new Set(starts).size <= 64 / window.gridLines + 1, `${new Set(starts).size} beginnings in 64 lines`);
});

test('a line that is longer than the window is cut on a grid of characters, and never to nothing', () => {
  const documents = new Documents();
  documents.open('file:///a.py', 'python', 1, 'x'.repeat(50_000));
  const document = documents.get('file:///a.py');
  assert(document);
  const { window } = room(2_048, 448);
  const starts = new Set<number>();
  for (let character = 40_000; character < 40_400; character++) {
    const place = placeOf(document, { line: 0, character }, null, window);
    assert(place && place.prefix.length > 0 && place.prefix.length <= window.prefixChars);
    starts.add(character - place.prefix.length);
  }
  assert(starts.size <= 2, `${starts.size} beginnings in 400 keys`);
});
