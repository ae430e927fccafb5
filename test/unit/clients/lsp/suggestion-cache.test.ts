import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CACHE_AGE_MS_MAX, CACHE_ENTRIES_MAX } from '../../../../clients/lsp/core/limits.ts';
import { SuggestionCache } from '../../../../clients/lsp/core/suggestion-cache.ts';
import { VirtualClock } from './support/virtual-clock.ts';

const key = (prefix: string, more: Partial<{ suffix: string; uri: string; model: string }> = {}) => ({
  ...{ prefix, suffix: '\nend', uri: 'file:///a.py', model: 'm' },
  ...more,
});

const whole = (text: string) => [{ text, cut: false, scoped: false }];

test('an entry is found at its place and behind what was typed of it, and nowhere else', () => {
  const cache = new SuggestionCache(new VirtualClock());
  cache.put('a', key('x = '), whole('compute(y)'), true);
  assert.deepEqual(cache.find(key('x = ')), { id: 'a', texts: whole('compute(y)'), typed: '', singleLine: true });
  assert.deepEqual(cache.find(key('x = comp'))?.texts, whole('ute(y)'));
  for (const other of [
    key('x = cat'),
    key('y = '),
    key('x ='),
    key('x = ', { suffix: '\nother' }),
    key('x = ', { uri: 'file:///b.py' }),
    key('x = ', { model: 'n' }),
    key('x = compute(y)'),
  ])
    assert.equal(cache.find(other), null, JSON.stringify(other));
});

test('an entry is found when typing has gone down three lines, deep in a file', () => {
  const cache = new SuggestionCache(new VirtualClock());
  const head = Array.from({ length: 500 }, (_, i) => `line ${i}\n`).join('');
  const text = 'one\ntwo\nthree\nfour\nfive';
  cache.put('a', key(head), whole(text), false);
  for (const typed of ['one', 'one\n', 'one\ntwo\nthr', 'one\ntwo\nthree\nfo']) {
    assert.equal(cache.find(key(head + typed))?.texts[0]?.text, text.slice(typed.length), JSON.stringify(typed));
  }
  assert.equal(cache.find(key(`${head}one\ntwo\nthree\nfour\nfi`)), null);
  // The window that the place was cut from may have moved on meanwhile.
  assert.equal(cache.find(key(`${head.slice(head.indexOf('line 64'))}one\n`))?.typed, 'one\n');
});

test('the last characters of a text that was cut are not offered again', () => {
  const cache = new SuggestionCache(new VirtualClock());
  cache.put('a', key('x = '), [{ text: 'compute(values', cut: true, scoped: false }], false);
  assert.equal(cache.find(key('x = com'))?.texts[0]?.text, 'pute(values');
  assert.equal(cache.find(key('x = compute(')), null);
});

test('the longest unused goes first, and what is too old goes', async () => {
  const clock = new VirtualClock();
  const cache = new SuggestionCache(clock);
  for (let i = 0; i < CACHE_ENTRIES_MAX; i++) cache.put(`id${i}`, key(`${i} = `), whole('text'), false);
  assert(cache.find(key('0 = ')));
  cache.put('late', key('late = '), whole('text'), false);
  assert.equal(cache.size, CACHE_ENTRIES_MAX);
  assert(cache.find(key('0 = ')), 'it was used');
  assert.equal(cache.find(key('1 = ')), null);
  await clock.advance(CACHE_AGE_MS_MAX + 1);
  assert.equal(cache.find(key('0 = ')), null);
  cache.clear();
  assert.equal(cache.size, 0);
});

test('a text of nothing is no entry, and candidates that were typed past are left out', () => {
  const cache = new SuggestionCache(new VirtualClock());
  cache.put('a', key('x'), whole(''), false);
  assert.equal(cache.size, 0);
  cache.put('b', key('x'), [...whole('yes()'), ...whole('no()')], false);
  assert.deepEqual(cache.find(key('xn'))?.texts, whole('o()'));
});
