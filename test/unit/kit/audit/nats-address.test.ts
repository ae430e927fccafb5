import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNatsAddress } from '#kit/audit/nats-address.ts';

test('servers, and who we are there; what is shown holds no credentials', () => {
  assert.deepEqual(parseNatsAddress('nats://127.0.0.1:4222'), {
    servers: ['nats://127.0.0.1:4222'],
    shown: 'nats://127.0.0.1:4222',
    auth: {},
  });
  assert.deepEqual(parseNatsAddress('nats://gateway:s%40cret@a:1, tls://b:2'), {
    servers: ['nats://a:1', 'tls://b:2'],
    shown: 'nats://a:1,tls://b:2',
    auth: { tls: {}, user: 'gateway', pass: 's@cret' },
  });
  assert.deepEqual(parseNatsAddress('nats://t0ken@[::1]:4222').auth, { token: 't0ken' });
});

test('another address is refused without its credentials in the message', () => {
  for (const bad of ['', '127.0.0.1:4222', 'http://a:1', 'nats://', 'nats://u:secret@', 'nats://u:secret@a:1/path']) {
    assert.throws(
      () => parseNatsAddress(bad),
      (error: Error) => /expected nats:\/\/HOST:PORT/.test(error.message) && !error.message.includes('secret'),
      bad,
    );
  }
});
