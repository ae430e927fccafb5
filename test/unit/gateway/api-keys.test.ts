import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { createKey, listKeys, revokeKey } from '#kit/keys-file.ts';
import { createLog } from '#kit/log.ts';
import { bearerToken, createAuthenticate } from '../../../services/gateway/api-keys.ts';

const log = createLog({ service: 'test', level: 'silent' });

function keysPath(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'quern-keys-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, 'keys.json');
}

test('a key opens the door until it is revoked, without a restart', async (t) => {
  const path = keysPath(t);
  const { token, key } = await createKey(path, {
    tenant: 'acme',
    user: 'ada',
    priorityCeiling: 'CHAT',
    parseSpecial: 'fim',
  });
  await createKey(path, { tenant: 'acme', user: 'bob' });
  let now = 0;
  const authenticate = createAuthenticate(path, log, () => now);
  assert.deepEqual(authenticate(token), {
    tenant: 'acme',
    user: 'ada',
    role: 'user',
    keyId: key.id,
    priorityCeiling: PriorityClass.PRIORITY_CLASS_CHAT,
    parseSpecialCeiling: 'fim',
  });
  await revokeKey(path, key.id);
  now += 999;
  assert.throws(() => authenticate(token), { code: 'UNAUTHENTICATED' });
  assert.equal((await listKeys(path)).find((k) => k.id === key.id)?.revoked !== null, true);
});

test('the file holds no token and is readable by its owner only', async (t) => {
  const path = keysPath(t);
  const { token } = await createKey(path, { tenant: 'acme', user: 'ada' });
  assert.match(token, /^qk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$/);
  assert.equal(readFileSync(path, 'utf8').includes(token.slice(16)), false);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('wrong, malformed and absent tokens are refused alike', async (t) => {
  const path = keysPath(t);
  const { token } = await createKey(path, { tenant: 'acme', user: 'ada' });
  const authenticate = createAuthenticate(path, log);
  const last = token.at(-1) === 'A' ? 'B' : 'A';
  for (const bad of [null, '', 'qk_', token.slice(0, -1), token.slice(0, -1) + last, `${token}x`, 'Bearer']) {
    assert.throws(() => authenticate(bad), { code: 'UNAUTHENTICATED' }, String(bad));
  }
});

test('keys made at the same moment are all kept', async (t) => {
  const path = keysPath(t);
  await Promise.all(Array.from({ length: 4 }, (_, i) => createKey(path, { tenant: 'acme', user: `u${i}` })));
  assert.equal((await listKeys(path)).length, 4);
});

test('a broken file keeps the last good keys; a missing one lets nobody in', async (t) => {
  const path = keysPath(t);
  const { token } = await createKey(path, { tenant: 'acme', user: 'ada' });
  let now = 0;
  const authenticate = createAuthenticate(path, log, () => (now += 1000));
  writeFileSync(path, '{"version": 1, "keys": [');
  assert.equal(authenticate(token).user, 'ada');
  rmSync(path);
  assert.throws(() => authenticate(token), { code: 'UNAUTHENTICATED' });
  assert.throws(() => createAuthenticate(path, log), /ENOENT/);
});

test('mistakes in the file and in a new key name their place', async (t) => {
  const path = keysPath(t);
  writeFileSync(path, '{"version": 1, "keys": [{"id": "x"}]}');
  assert.throws(() => createAuthenticate(path, log), /keys\.0\.id/);
  rmSync(path);
  await assert.rejects(createKey(path, { tenant: 'a b', user: 'x' }), /tenant: expected/);
  await assert.rejects(revokeKey(path, '000000000000'), { code: 'NOT_FOUND' });
});

test('the bearer token of a header', () => {
  assert.equal(bearerToken('Bearer qk_1'), 'qk_1');
  assert.equal(bearerToken('bearer  qk_1 '), 'qk_1');
  for (const bad of [undefined, '', 'Basic abc', 'Bearer', 'Bearer a b']) assert.equal(bearerToken(bad), null);
});
