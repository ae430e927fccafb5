import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newestFirst } from '../../../services/gateway/engine-session.ts';

const names = (touched: readonly { name: string }[]): string => touched.map(({ name }) => name).join('');
const handle = (name: string) => ({ name, hasBegun: name === name.toLowerCase() });

test('first steps are told before further ones, each kind in its order', () => {
  const of = (text: string) => [...text].map(handle);
  assert.equal(names(newestFirst(of('aBcDe'))), 'BDace');
  assert.equal(names(newestFirst(of('abc'))), 'abc');
  assert.equal(names(newestFirst(of('ABC'))), 'ABC');
  assert.deepEqual(newestFirst([]), []);
});
