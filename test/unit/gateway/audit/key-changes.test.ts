import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ApiKey } from '#kit/keys-file.ts';
import { keyChanges } from '../../../../services/gateway/audit/key-changes.ts';

const key = (id: string, over: Partial<ApiKey> = {}): ApiKey => ({
  id,
  hash: '0'.repeat(64),
  tenant: 't',
  user: 'u',
  role: 'user',
  priority_ceiling: 'INVOKED',
  parse_special: 'all',
  created: '2026-01-01T00:00:00Z',
  revoked: null,
  ...over,
});
const REVOKED = { revoked: '2026-01-02T00:00:00Z' };

function changes(before: ApiKey[], after: ApiKey[]): string[] {
  const set = (keys: ApiKey[]) => new Map(keys.map((one) => [one.id, one]));
  return keyChanges(set(before), set(after)).map(({ kind, key: { id } }) => `${kind} ${id}`);
}

test('keys that come, go, are revoked, come back, or may do something else', () => {
  assert.deepEqual(changes([key('a')], [key('a')]), []);
  assert.deepEqual(changes([], [key('a'), key('b', REVOKED)]), ['created a', 'created b', 'revoked b']);
  assert.deepEqual(changes([key('a')], [key('a', REVOKED)]), ['revoked a']);
  assert.deepEqual(changes([key('a', REVOKED)], [key('a')]), ['created a']);
  assert.deepEqual(changes([key('a'), key('b', REVOKED)], []), ['revoked a']);
  for (const over of [{ role: 'admin' }, { priority_ceiling: 'BATCH' }, { parse_special: 'none' }] as const) {
    assert.deepEqual(changes([key('a')], [key('a', over)]), ['policy a']);
  }
  assert.deepEqual(changes([key('a')], [key('a', { ...REVOKED, role: 'admin' })]), ['revoked a', 'policy a']);
});
