import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, isLocal, parseAddress } from '#kit/rpc/address.ts';

test('both forms are read and written back', () => {
  for (const text of ['unix:///run/q/e.sock', '127.0.0.1:0', 'engine.svc:50053', '[::1]:8000']) {
    assert.equal(formatAddress(parseAddress(text)), text);
  }
  assert.equal(formatAddress(parseAddress('unix:/run/e.sock')), 'unix:///run/e.sock');
});

test('anything else is refused with what was expected', () => {
  for (const text of [
    '',
    'localhost',
    ':50051',
    'host:',
    'host:65536',
    'host:-1',
    'unix:relative',
    'unix://',
    '::1:80',
    'http://h:1',
  ]) {
    assert.throws(
      () => parseAddress(text),
      { code: 'INVALID_ARGUMENT', message: /expected unix:\/\/\/path or host:port/ },
      text,
    );
  }
});

test('local is what only this machine reaches', () => {
  for (const text of ['unix:///s', 'localhost:1', '127.0.0.1:1', '127.9.9.9:1', '[::1]:1'])
    assert.equal(isLocal(parseAddress(text)), true, text);
  for (const text of ['0.0.0.0:1', '10.0.0.1:1', '[::]:1', 'localhost.evil.example:1', '127.0.0.1.evil.example:1']) {
    assert.equal(isLocal(parseAddress(text)), false, text);
  }
});
