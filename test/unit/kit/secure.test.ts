import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constantTimeEqual, deriveSalt, sha256Hex } from '#kit/secure.ts';

test('sha256 of the empty string is the known one', () => {
  assert.equal(sha256Hex(''), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
});

test('equality holds for equal bytes only, whatever the lengths', () => {
  assert.equal(constantTimeEqual('token', Buffer.from('token')), true);
  for (const other of ['', 'toke', 'tokens', 'Token']) assert.equal(constantTimeEqual('token', other), false);
});

test('salts are stable, and differ by tenant and by secret', () => {
  const salt = deriveSalt('secret', 'acme');
  assert.match(salt, /^[0-9a-f]{32}$/);
  assert.equal(deriveSalt('secret', 'acme'), salt);
  assert.notEqual(deriveSalt('secret', 'other'), salt);
  assert.notEqual(deriveSalt('secret2', 'acme'), salt);
});
