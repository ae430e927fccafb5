// The long call straight over HTTP/2, against our servers and against peers that are not what they should be.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { CODES, QuernError } from '#kit/errors.ts';
import { RPC_MESSAGE_BYTES_MAX } from '#kit/limits.ts';
import type { ServerTls } from '#kit/rpc/server.ts';
import { SessionCall, type SessionTarget } from '#kit/rpc/session-call.ts';
import { mesh, stranger } from '../../fixtures/tls/certificates.ts';
import { EchoService, type Message, startEcho, until } from './support/echo.ts';
import { endOf, fails, open, startPeer, startSilent } from './support/session-call.ts';

const mutualTls: ServerTls = { ...mesh.server, ca: mesh.ca, requireClientCert: true };
const ways: [string, Parameters<typeof startEcho>[2], Partial<SessionTarget>][] = [
  ['a unix socket', {}, {}],
  ['TCP', { listen: ['127.0.0.1:0'], openOnLoopback: true }, {}],
  ['TCP, IPv6', { listen: ['[::1]:0'], openOnLoopback: true }, {}],
  ['mutual TLS', { listen: ['127.0.0.1:0'], tls: mutualTls }, { tls: { ca: mesh.ca, ...mesh.gateway } }],
  [
    'mutual TLS by another name',
    { listen: ['127.0.0.1:0'], tls: mutualTls },
    { tls: { ca: mesh.ca, ...mesh.gateway, serverName: 'server.test' } },
  ],
];

for (const [where, options, target] of ways) {
  test(`messages of all sizes go both ways in order over ${where}`, async (t) => {
    const echo = await startEcho(t, {}, options);
    const heard = open(t, { address: echo.address, ...target });
    const sent: Message[] = Array.from({ length: 1_000 }, (_, number) => ({ number }));
    sent.splice(500, 0, { text: 'x'.repeat(1 << 20) }, { text: 'größer 😀' });
    for (const message of sent) heard.call.write(message);
    await until(() => heard.messages.length === sent.length, 'all messages');
    assert.deepEqual(heard.messages, sent);
    assert.deepEqual(heard.ends, []);
  });
}

test('a peer that ends the call with OK ends it without an error, after what it wrote', async (t) => {
  const echo = await startEcho(t, {
    async talk(_incoming, _call, out) {
      for (let number = 0; number < 100; number += 1) out.write({ number });
    },
  });
  const heard = open(t, { address: echo.address });
  assert.equal(await endOf(heard), null);
  assert.equal(heard.messages.length, 100);
  heard.call.write({ text: 'late' }); // is nothing
});

test('every code comes back with its details, at once and after messages', async (t) => {
  const details = {
    reason: 'TEST_REASON',
    metadata: { expected: '1' },
    fields: [{ field: 'a.b', description: 'expected x, got y' }],
    retryAfterMs: 250,
  };
  const echo = await startEcho(t, {
    async talk(incoming, _call, out) {
      for await (const { number, text } of incoming) {
        if (text !== undefined) out.write({ text });
        throw new QuernError(CODES[number!]!, `100 % größer als ${number}`, details);
      }
    },
  });
  for (const [number, code] of CODES.entries()) {
    for (const first of [{ number }, { number, text: 'before' }]) {
      const heard = open(t, { address: echo.address });
      heard.call.write(first);
      const error = await endOf(heard);
      assert.deepEqual(
        { code: error?.code, message: error?.message, details: error?.details },
        { code, message: `100 % größer als ${number}`, details },
      );
      assert.equal(heard.messages.length, first.text === undefined ? 0 : 1);
    }
  }
});

test('the shared token is sent, and without it the caller hears why', async (t) => {
  const echo = await startEcho(t, {}, { sharedToken: 's3cret-token' });
  const good = open(t, { address: echo.address, sharedToken: 's3cret-token' });
  good.call.write({ number: 1 });
  await until(() => good.messages.length === 1, 'the answer');
  await fails(open(t, { address: echo.address }), { code: 'UNAUTHENTICATED', reason: 'TOKEN_MISSING' });
  const bad = open(t, { address: echo.address, sharedToken: 'wrong' });
  await fails(bad, { code: 'UNAUTHENTICATED', reason: 'TOKEN_INVALID' });
});

test('nobody there, a wrong certificate and a peer without TLS are UNAVAILABLE and name the address', async (t) => {
  const { ca, gateway } = mesh;
  const expected = { code: 'UNAVAILABLE', reason: 'NOT_CONNECTED' };
  const nobody = open(t, { address: 'unix:///nowhere/quern-nobody.sock' });
  nobody.call.write({ text: 'into the void' });
  await fails(nobody, { ...expected, message: /unix:\/\/\/nowhere\/quern-nobody\.sock is lost: .*ENOENT/ });
  const tls = await startEcho(t, {}, { listen: ['127.0.0.1:0'], tls: mutualTls });
  const { address } = tls;
  const cases: [SessionTarget, RegExp][] = [
    [{ address }, /is lost/],
    [{ address, tls: { ca } }, /is lost/],
    [{ address, tls: { ...gateway, ca: stranger.ca } }, /self-signed certificate in certificate chain/],
    [{ address, tls: { ca, ...gateway, serverName: 'engine.test' } }, /engine\.test\. is not in the/],
  ];
  for (const [target, message] of cases) await fails(open(t, target), { ...expected, message });
  const plain = await startEcho(t, {}, { listen: ['127.0.0.1:0'], openOnLoopback: true });
  await fails(open(t, { address: plain.address, tls: { ca, ...gateway } }), expected);
});

test('a signal ends the call with its reason at once, and the handler is cancelled', async (t) => {
  let code: string | null = null;
  const echo = await startEcho(t, {
    async talk(incoming, call, out) {
      call.signal.addEventListener('abort', () => {
        code = (call.signal.reason as QuernError).code;
      });
      for await (const message of incoming) out.write(message);
      await until(() => code !== null, 'the handler hears of it'); // what came before a cancel is an end of the requests
    },
  });
  const heard = open(t, { address: echo.address });
  heard.call.write({ number: 1 });
  await until(() => heard.messages.length === 1, 'the call runs');
  heard.stop.abort(new QuernError('ABORTED', 'enough'));
  assert.deepEqual([heard.ends[0]?.code, heard.ends[0]?.message], ['ABORTED', 'enough'], 'not in a later turn');
  await endOf(heard);
  await until(() => code !== null, 'the handler hears of it');
  assert.equal(code, 'CANCELLED');
  const signal = AbortSignal.abort(new QuernError('ABORTED', 'before it began'));
  const listener = { signal, onMessage() {}, onEnd() {} };
  assert.throws(() => new SessionCall({ address: echo.address }, EchoService.talk, listener), { code: 'ABORTED' });
});

test('a signal ends a call that is still connecting', async (t) => {
  const { address } = await startSilent(t);
  const heard = open(t, { address });
  heard.stop.abort(new QuernError('CANCELLED', 'enough'));
  await fails(heard, { code: 'CANCELLED', message: /enough/ });
});

test('a server that drains and closes ends the call with UNAVAILABLE', async (t) => {
  const echo = await startEcho(t);
  const heard = open(t, { address: echo.address });
  heard.call.write({ number: 1 });
  await until(() => heard.messages.length === 1, 'the call runs');
  await echo.server.close();
  await fails(heard, { code: 'UNAVAILABLE', reason: 'DRAINING' });
});

test('a message that is too large is refused alone', async (t) => {
  const echo = await startEcho(t);
  const heard = open(t, { address: echo.address });
  assert.throws(() => heard.call.write({ text: 'x'.repeat(RPC_MESSAGE_BYTES_MAX) }), {
    code: 'RESOURCE_EXHAUSTED',
    details: { reason: 'MESSAGE_TOO_LARGE' },
    message: /quern\.test\.v1\.EchoService\/Talk: expected a message of at most 16777216 bytes, got 16777227/,
  });
  heard.call.write({ number: 1 });
  await until(() => heard.messages.length === 1, 'the next one goes through');
});

test('a listener that throws ends its call with that error and hears nothing more', async (t) => {
  const echo = await startEcho(t);
  const heard = open(t, { address: echo.address }, () => {
    throw new QuernError('DATA_LOSS', 'not that one');
  });
  for (let number = 0; number < 10; number += 1) heard.call.write({ number });
  await fails(heard, { code: 'DATA_LOSS', message: /not that one/ });
  assert.equal(heard.messages.length, 1);
});

const strangeEnds: [string, (stream: ServerHttp2Stream) => void, { code: string; message?: RegExp }][] = [
  [
    'a page that is not there',
    (stream) => {
      stream.respond({ ':status': 404, 'content-type': 'text/html' });
      stream.end('<html>no such page</html>');
    },
    { code: 'UNIMPLEMENTED', message: /expected gRPC, got HTTP status 404 and text\/html; is the address right\?/ },
  ],
  [
    'a page of somebody else',
    (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'text/html' });
      stream.end('<html>welcome</html>');
    },
    { code: 'UNKNOWN', message: /expected gRPC, got HTTP status 200 and text\/html; is the address right\?/ },
  ],
  [
    'half a message and OK',
    (stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.from([0, 0, 0, 0, 9, 123]));
    },
    { code: 'INTERNAL', message: /ended the call with OK within a message/ },
  ],
  [
    'a proxy without its server',
    (stream) => stream.respond({ ':status': 503 }, { endStream: true }),
    { code: 'UNAVAILABLE' },
  ],
  ['a teapot', (stream) => stream.respond({ ':status': 418 }, { endStream: true }), { code: 'UNKNOWN' }],
  [
    'an end without a status',
    (stream) => {
      stream.respond({ ':status': 200 });
      stream.end();
    },
    { code: 'INTERNAL', message: /ended the call without a status/ },
  ],
  ['a refused stream', (stream) => stream.close(7), { code: 'UNAVAILABLE' }],
  ['a cancelled stream', (stream) => stream.close(8), { code: 'CANCELLED' }],
  ['a peer that asks for calm', (stream) => stream.close(11), { code: 'RESOURCE_EXHAUSTED' }],
  ['a peer that wants better TLS', (stream) => stream.close(12), { code: 'PERMISSION_DENIED' }],
  ['an internal error', (stream) => stream.close(2), { code: 'INTERNAL' }],
  [
    'a connection that breaks',
    (stream) => stream.session?.socket.destroy(),
    { code: 'UNAVAILABLE', message: /is lost/ },
  ],
  [
    'a status that no protocol knows, with details that do not decode',
    (stream) =>
      stream.respond(
        { ':status': 200, 'grpc-status': '77', 'grpc-message': '100% wrong', 'grpc-status-details-bin': '/////w' },
        { endStream: true },
      ),
    { code: 'UNKNOWN', message: /^100% wrong$/ },
  ],
  [
    'an answer that does not decode',
    (stream) => {
      stream.respond({ ':status': 200 });
      stream.write(Buffer.from([0, 0, 0, 0, 1, 123]));
    },
    { code: 'INTERNAL' },
  ],
  [
    'an answer above the limit',
    (stream) => {
      stream.respond({ ':status': 200 });
      stream.write(Buffer.from([0, 255, 255, 255, 255]));
    },
    { code: 'RESOURCE_EXHAUSTED', message: /at most 16777216 bytes, got one of 4294967295/ },
  ],
];

for (const [what, answer, expected] of strangeEnds) {
  test(`the call ends with ${expected.code}: ${what}`, async (t) => {
    const heard = open(t, await startPeer(t, answer));
    heard.call.write({ number: 1 });
    await fails(heard, expected);
  });
}

test('a peer that speaks another protocol is UNAVAILABLE', async (t) => {
  const { address, sockets } = await startSilent(t);
  const heard = open(t, { address });
  await until(() => sockets.length === 1, 'the connection');
  sockets[0]?.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n');
  await fails(heard, { code: 'UNAVAILABLE', reason: 'NOT_CONNECTED' });
});

test('the name is asked for in the handshake, as by other clients; of an address there is none', async (t) => {
  const names: unknown[] = [];
  const server = createTlsServer({ ...mesh.server, ALPNProtocols: ['h2'] }, (socket) => {
    names.push(socket.servername);
    socket.destroy();
  });
  server.on('tlsClientError', () => {});
  server.listen(0);
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  for (const [host, serverName] of [['localhost'], ['127.0.0.1'], ['127.0.0.1', 'server.test']] as const) {
    const tls = { ca: mesh.ca, ...(serverName !== undefined && { serverName }) };
    await fails(open(t, { address: `${host}:${port}`, tls }), { code: 'UNAVAILABLE' });
  }
  assert.deepEqual(names, ['localhost', false, 'server.test']);
});
