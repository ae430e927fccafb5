import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostOfPeer } from '../../../services/kit/rpc/surface.ts';

test('a peer is known by its address, whichever port it called from', () => {
  assert.equal(hostOfPeer('127.0.0.1:40312'), '127.0.0.1');
  assert.equal(hostOfPeer('[2001:db8::1]:40312'), '2001:db8::1');
  assert.equal(hostOfPeer('2001:db8::1:40312'), '2001:db8::1');
  assert.equal(hostOfPeer('unix#7'), 'unix');
  assert.equal(hostOfPeer('unix'), 'unix');
});
