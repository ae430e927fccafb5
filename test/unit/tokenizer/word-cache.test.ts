import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CACHE_SETS,
  CACHE_WAYS,
  CACHED_WORD_IDS_MAX,
  CACHED_WORD_UNITS_MAX,
} from '../../../services/tokenizer/limits.ts';
import { hashWord, WordCache } from '../../../services/tokenizer/word-cache.ts';

const unitsOf = (word: string): Uint16Array => Uint16Array.from({ length: word.length }, (_, i) => word.charCodeAt(i));

function write(cache: WordCache, word: string, ids: readonly number[], hash?: number): void {
  const units = unitsOf(word);
  cache.write(units, 0, units.length, hash ?? hashWord(units, 0, units.length), Int32Array.from(ids), ids.length);
}

function read(cache: WordCache, word: string, hash?: number): number[] {
  const units = unitsOf(word);
  const out = new Uint32Array(CACHED_WORD_IDS_MAX);
  const count = cache.read(units, 0, units.length, hash ?? hashWord(units, 0, units.length), out, 0);
  return [...out.subarray(0, count)];
}

test('a word gives its own ids and no other word gives them', () => {
  const cache = new WordCache();
  const words = [
    'a',
    'b',
    '__proto__',
    'constructor',
    '\ud800',
    ' x',
    'é',
    'e\u0301',
    'x'.repeat(CACHED_WORD_UNITS_MAX),
  ];
  for (const [index, word] of words.entries()) write(cache, word, [index, index + 100]);
  for (const [index, word] of words.entries()) assert.deepEqual(read(cache, word), [index, index + 100], word);
  assert.deepEqual(read(cache, 'c'), []);
  assert.deepEqual(read(cache, 'toString'), []);
});

test('words of one hash are told apart by their characters', () => {
  const cache = new WordCache();
  for (let i = 0; i < CACHE_WAYS; i += 1) write(cache, `w${i}`, [i], 42);
  for (let i = 0; i < CACHE_WAYS; i += 1) assert.deepEqual(read(cache, `w${i}`, 42), [i]);
  assert.deepEqual(read(cache, 'w9', 42), []);
  assert.deepEqual(read(cache, 'w', 42), []);
});

test('words that are too long or give too many ids are not kept', () => {
  const cache = new WordCache();
  write(cache, 'x'.repeat(CACHED_WORD_UNITS_MAX + 1), [1]);
  assert.deepEqual(read(cache, 'x'.repeat(CACHED_WORD_UNITS_MAX + 1)), []);
  write(
    cache,
    'many',
    Array.from({ length: CACHED_WORD_IDS_MAX + 1 }, (_, i) => i),
  );
  assert.deepEqual(read(cache, 'many'), []);
});

test('a flood of new words does not drive out words that were met again', () => {
  const cache = new WordCache();
  const known = Array.from({ length: 2000 }, (_, i) => `word${i}`);
  for (const [index, word] of known.entries()) write(cache, word, [index]);
  for (const word of known) read(cache, word);
  for (let i = 0; i < 4 * CACHE_SETS * CACHE_WAYS; i += 1) write(cache, `flood${i}`, [i]);
  const kept = known.filter((word) => read(cache, word).length > 0).length;
  assert(kept > 0.95 * known.length, `expected nearly all of ${known.length} words, ${kept} are left`);
});

test('words that are not met any more make room in the end', () => {
  const cache = new WordCache();
  for (let i = 0; i < CACHE_WAYS; i += 1) write(cache, `old${i}`, [i], 7);
  for (let i = 0; i < CACHE_WAYS; i += 1) read(cache, `old${i}`, 7);
  for (let i = 0; i < CACHE_WAYS; i += 1) {
    write(cache, `new${i}`, [i], 7);
    assert.deepEqual(read(cache, `new${i}`, 7), [i]);
  }
  for (let i = 0; i < CACHE_WAYS; i += 1) assert.deepEqual(read(cache, `new${i}`, 7), [i], `new${i}`);
});
