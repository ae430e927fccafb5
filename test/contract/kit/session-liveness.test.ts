// When the long call over HTTP/2 gives its peer up: no handshake, no pings, no end after a goodbye, nothing read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { RPC_GOODBYE_MS, RPC_KEEPALIVE_MS, RPC_KEEPALIVE_TIMEOUT_MS } from '#kit/limits.ts';
import { frameOf } from '#kit/rpc/frames.ts';
import { mesh } from '../../fixtures/tls/certificates.ts';
import { fails, open, startPeer, startSilent } from './support/session-call.ts';

for (const [what, target, message] of [
  ['answers no ping', {}, /did not answer a ping within 20000 ms; is it running\?/],
  [
    'never finishes the handshake',
    { tls: { ca: mesh.ca } },
    /did not take the connection within 20000 ms; is it running\?/,
  ],
] as const) {
  test(`a peer that ${what} is given up`, async (t) => {
    const { address, sockets } = await startSilent(t);
    t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
    const heard = open(t, { address, ...target });
    while (sockets.length === 0) await turn();
    for (let i = 0; i < 50; i += 1) await turn(); // the caller hears of its connection
    t.mock.timers.tick(RPC_KEEPALIVE_MS - 1);
    assert.deepEqual(heard.ends, []);
    t.mock.timers.tick(1);
    t.mock.timers.tick(RPC_KEEPALIVE_TIMEOUT_MS);
    await fails(heard, { code: 'UNAVAILABLE', reason: 'NOT_CONNECTED', message });
    t.mock.timers.tick(RPC_GOODBYE_MS);
    // The peer has ended nothing itself: its writes fail when the caller's end is cut, and not when it is half closed.
    while (!sockets[0]!.destroyed) {
      sockets[0]!.write('x');
      await turn();
    }
  });
}

test('a peer that has said goodbye and says nothing more is given up', async (t) => {
  const peer = await startPeer(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.on('data', () => {
      stream.write(frameOf(Buffer.from('{}')));
      stream.session?.goaway();
    });
  });
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const heard = open(t, peer);
  heard.call.write({});
  while (heard.messages.length < 1) await turn();
  for (let i = 0; i < 50; i += 1) await turn(); // the goodbye comes behind the answer
  t.mock.timers.tick(RPC_KEEPALIVE_MS);
  assert.deepEqual(heard.ends, [], 'what runs may end');
  t.mock.timers.tick(RPC_KEEPALIVE_TIMEOUT_MS);
  await fails(heard, { code: 'UNAVAILABLE', message: /did not end the call after its goodbye within 20000 ms/ });
  t.mock.timers.tick(RPC_GOODBYE_MS);
});

test('a peer that answers pings and reads nothing is given up before what waits for it fills the memory', async (t) => {
  const peer = await startPeer(t, (stream) => stream.respond({ ':status': 200 }));
  const heard = open(t, peer);
  const text = 'x'.repeat(8 << 20);
  for (let i = 0; i < 7; i += 1) heard.call.write({ text });
  assert.deepEqual(heard.ends, []);
  for (let i = 0; i < 3; i += 1) heard.call.write({ text });
  await fails(heard, { code: 'UNAVAILABLE', reason: 'SLOW_READER', message: /does not read: \d+ bytes wait unsent/ });
});

test('a peer that answers pings is kept, however long it has nothing to say', async (t) => {
  const peer = await startPeer(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.on('data', () => stream.write(frameOf(Buffer.from('{}'))));
  });
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const heard = open(t, peer);
  for (let answers = 1; answers < 6; answers += 1) {
    heard.call.write({}); // its answer comes behind the ping's
    while (heard.messages.length < answers && heard.ends.length === 0) await turn();
    t.mock.timers.tick(RPC_KEEPALIVE_MS);
  }
  assert.deepEqual(heard.ends, []);
});
