import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { HealthClient, HealthCheckResponse_ServingStatus as Status } from '#gen/grpc/health/v1/health.ts';
import { QuernError } from '#kit/errors.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { localPrincipal } from '#kit/principal.ts';
import { type ClientTls, openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { type RpcServerOptions, startRpcServer } from '#kit/rpc/server.ts';
import { mesh, stranger } from '../../fixtures/tls/certificates.ts';
import { bidi } from '../../support/bidi.ts';
import { EchoClient, startEcho, tempFolder, until } from './support/echo.ts';

const bare = (options: Partial<RpcServerOptions>): RpcServerOptions => ({
  service: 'bare',
  listen: [],
  services: [],
  log: createLog({ service: 'bare', level: 'silent' }),
  metrics: createMetrics('bare'),
  ...options,
});

test('it listens on several addresses and reports real ports', async (t) => {
  const socket = `unix://${join(await tempFolder(t), 's.sock')}`;
  const echo = await startEcho(t, {}, { listen: [socket, '127.0.0.1:0', 'localhost:0'], openOnLoopback: true });
  assert.equal(echo.server.addresses[0], socket);
  for (const address of echo.server.addresses) {
    assert.doesNotMatch(address, /:0$/);
    const client = openChannel(EchoClient, { address });
    t.after(() => client.close());
    assert.deepEqual(await unary(client, 'say', { text: address }), { text: address });
  }
});

test('a taken port and a missing address are clear errors', async (t) => {
  const echo = await startEcho(t, {}, { listen: ['127.0.0.1:0'], openOnLoopback: true });
  await assert.rejects(startRpcServer(bare({ listen: [echo.address], openOnLoopback: true })), {
    code: 'UNAVAILABLE',
    details: { reason: 'LISTEN_FAILED' },
    message: /cannot listen on 127\.0\.0\.1:\d+/,
  });
  await assert.rejects(startRpcServer(bare({})), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(startRpcServer(bare({ listen: ['nonsense'] })), { details: { reason: 'BAD_ADDRESS' } });
});

test('without authentication only its unix sockets may be reached, and loopback where that is said', async (t) => {
  const socket = `unix://${join(await tempFolder(t), 's.sock')}`;
  for (const listen of ['0.0.0.0:0', '[::]:0', 'example.org:0', '127.0.0.1:0', 'localhost:0']) {
    const refused = (message: RegExp) => ({
      code: 'FAILED_PRECONDITION',
      details: { reason: 'OPEN_LISTENER' },
      message,
    });
    await assert.rejects(
      startRpcServer(bare({ listen: [socket, listen] })),
      refused(/refuses to listen on .* without authentication: expected a unix socket, or mutual TLS/),
    );
    if (/^(127|local)/.test(listen)) continue;
    await assert.rejects(
      startRpcServer(bare({ listen: ['127.0.0.1:0', listen], openOnLoopback: true })),
      refused(/refuses to listen on .* without authentication: expected a loopback address, or mutual TLS/),
    );
  }
  const tls = { cert: 'c', key: 'k', requireClientCert: true };
  await assert.rejects(startRpcServer(bare({ listen: ['127.0.0.1:0'], tls })), {
    details: { reason: 'TLS_CA_MISSING' },
  });
  await assert.rejects(startRpcServer(bare({ listen: ['0.0.0.0:0'], tls: { cert: 'c', key: 'k' } })), {
    details: { reason: 'OPEN_LISTENER' },
  });
  const guarded = await startEcho(t, {}, { listen: ['0.0.0.0:0'], sharedToken: 's3cret-token' });
  assert.match(guarded.address, /^0\.0\.0\.0:\d+$/);
});

test('the shared token is asked for on every call but health', async (t) => {
  const echo = await startEcho(t, {}, { sharedToken: 's3cret-token', clientToken: 's3cret-token' });
  assert.deepEqual(await unary(echo.client, 'say', { number: 1 }), { number: 1 });
  assert.deepEqual((await echo.calls(1))[0]!.user, 'mesh');
  for (const [sharedToken, reason] of [
    [undefined, 'TOKEN_MISSING'],
    ['wrong', 'TOKEN_INVALID'],
    ['s3cret-toke', 'TOKEN_INVALID'],
  ] as const) {
    const client = openChannel(EchoClient, { address: echo.address, sharedToken });
    t.after(() => client.close());
    const refused = { code: 'UNAUTHENTICATED', details: { reason } };
    await assert.rejects(unary(client, 'say', {}), refused);
    await assert.rejects(serverStream(client, 'count', { number: 1 }).next(), refused);
    const talk = bidi(client, 'talk', { token: sharedToken });
    await assert.rejects(async () => {
      for await (const _ of talk.responses);
    }, refused);
  }
  const health = openChannel(HealthClient, { address: echo.address });
  t.after(() => health.close());
  assert.deepEqual(await unary(health, 'check', { service: '' }), { status: Status.NOT_SERVING });
  assert.doesNotMatch(JSON.stringify(echo.lines), /s3cret/);
});

test('authenticate decides the principal, or refuses', async (t) => {
  const echo = await startEcho(
    t,
    { say: (_request, call) => ({ text: `${call.principal.tenant}/${call.principal.user}` }) },
    {
      async authenticate(metadata) {
        const key = metadata.get('authorization');
        if (key !== 'Bearer k1') throw new QuernError('UNAUTHENTICATED', 'expected a key, got none; send one');
        return { ...localPrincipal, tenant: 'acme', user: 'ann', keyId: 'k1' };
      },
    },
  );
  await assert.rejects(unary(echo.client, 'say', {}), { code: 'UNAUTHENTICATED', message: /expected a key/ });
  const answer = await unary(echo.client, 'say', {}, { metadata: { authorization: 'Bearer k1' } });
  assert.deepEqual(answer, { text: 'acme/ann' });
});

test('mutual TLS: a client is named by its certificate, and a unix socket carries no TLS', async (t) => {
  const { ca, server, gateway, nameless } = mesh;
  const socket = `unix://${join(await tempFolder(t), 's.sock')}`;
  const echo = await startEcho(
    t,
    { say: (_request, call) => ({ text: call.principal.user }) },
    { listen: ['127.0.0.1:0', socket], tls: { ...server, ca, requireClientCert: true } },
  );
  const nameAs = async (tls: ClientTls, address = echo.address) => {
    const client = openChannel(EchoClient, { address, tls });
    t.after(() => client.close());
    return (await unary(client, 'say', {})).text;
  };
  assert.equal(await nameAs({ ca, ...gateway, serverName: 'server.test' }), 'gateway');
  assert.equal(await nameAs({ ca, ...gateway }), 'gateway', 'the server is known by its address too');
  assert.equal(await nameAs({ ca, ...nameless }), 'nameless.test');
  assert.equal(await nameAs({ ca, ...gateway }, socket), 'local');
});

test('mutual TLS: who is turned away, by which side, and what its log says', async (t) => {
  const { ca, server, gateway } = mesh;
  const { cert, key } = stranger;
  const cases: [string, ClientTls | undefined, { logged?: string; message?: RegExp }][] = [
    ['no TLS', undefined, { logged: 'ERR_SSL_WRONG_VERSION_NUMBER' }],
    ['no certificate', { ca }, { logged: 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE' }],
    ['a certificate of another CA', { ca, cert, key }, { logged: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' }],
    [
      'another name expected',
      { ca, ...gateway, serverName: 'engine.test' },
      { message: /engine\.test\. is not in the/ },
    ],
    [
      'another CA expected',
      { ...gateway, ca: stranger.ca },
      { message: /self-signed certificate in certificate chain/ },
    ],
  ];
  for (const [what, tls, { logged, message }] of cases) {
    const options = { listen: ['127.0.0.1:0'], tls: { ...server, ca, requireClientCert: true } };
    const echo = await startEcho(t, {}, options);
    const client = openChannel(EchoClient, { address: echo.address, tls });
    t.after(() => client.close());
    const refused = (error: QuernError): boolean =>
      error.code === 'UNAVAILABLE' && (message ?? /./).test(error.message);
    await assert.rejects(unary(client, 'say', {}, { timeoutMs: 20_000 }), refused, what);
    if (logged === undefined) continue;
    const line = () => echo.lines.find(({ msg }) => msg === 'a connection was refused by TLS');
    await until(() => line() !== undefined, `a log line: ${what}`);
    assert.deepEqual([line()?.level, line()?.reason], ['warn', logged], what);
  }
});

test('mutual TLS and a shared token together: both are asked for', async (t) => {
  const { ca, server, gateway } = mesh;
  const echo = await startEcho(
    t,
    {},
    { listen: ['127.0.0.1:0'], tls: { ...server, ca, requireClientCert: true }, sharedToken: 's3cret-token' },
  );
  for (const sharedToken of ['s3cret-token', 'wrong']) {
    const client = openChannel(EchoClient, { address: echo.address, tls: { ca, ...gateway }, sharedToken });
    t.after(() => client.close());
    const answer = unary(client, 'say', { number: 1 });
    if (sharedToken === 'wrong') await assert.rejects(answer, { code: 'UNAUTHENTICATED' });
    else assert.deepEqual(await answer, { number: 1 });
  }
});

test('a killed process leaves a stale socket: the next one takes it; a living one keeps its own', async (t) => {
  const path = join(await tempFolder(t), 's.sock');
  const child = spawn(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`,
  ]);
  await once(child.stdout, 'data');
  await assert.rejects(startRpcServer(bare({ listen: [`unix://${path}`] })), { details: { reason: 'SOCKET_IN_USE' } });
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok((await stat(path)).isSocket(), 'the file is still there');
  const echo = await startEcho(t, {}, { listen: [`unix://${path}`] });
  assert.deepEqual(await unary(echo.client, 'say', { number: 1 }), { number: 1 });
  await echo.server.close();
  await assert.rejects(stat(path), { code: 'ENOENT' });
});

test('a socket path over 107 bytes is refused before the bind', async (t) => {
  const path = join(await tempFolder(t), 'x'.repeat(100), 's.sock');
  await assert.rejects(startRpcServer(bare({ listen: [`unix://${path}`] })), {
    details: { reason: 'SOCKET_PATH_TOO_LONG' },
  });
});

test('health: names are unknown, not serving or serving; watch tells each change, and the drain', async (t) => {
  const echo = await startEcho(t);
  const health = openChannel(HealthClient, { address: echo.address });
  t.after(() => health.close());
  const name = 'quern.test.v1.EchoService';
  const check = (service: string) => unary(health, 'check', { service });
  assert.equal((await check('')).status, Status.NOT_SERVING);
  assert.equal((await check(name)).status, Status.NOT_SERVING);
  await assert.rejects(check('nope'), { code: 'NOT_FOUND', message: /known: "", "quern\.test\.v1\.EchoService"/ });

  const seen: number[] = [];
  const watching = (async () => {
    for await (const { status } of serverStream(health, 'watch', { service: name })) seen.push(status);
  })();
  await until(() => seen.length === 1, 'the first status');
  echo.server.setServing(name, true);
  echo.server.setServing('', true);
  await until(() => seen.length === 2, 'serving');
  assert.equal((await check('')).status, Status.SERVING);
  echo.server.setServing('later', true);
  assert.equal((await check('later')).status, Status.SERVING);
  const draining = echo.server.drain(1_000);
  assert.equal((await check('')).status, Status.NOT_SERVING);
  await draining;
  assert.equal((await check('')).status, Status.NOT_SERVING, 'health answers until the close');
  await Promise.all([assert.rejects(watching, { code: 'UNAVAILABLE' }), echo.server.close()]);
  assert.deepEqual(seen, [Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING]);
});

test('drain: running calls finish, new ones are refused with a retry hint, the rest is aborted at the grace', async (t) => {
  let started = 0;
  const echo = await startEcho(t, {
    async say(request, call) {
      started += 1;
      if (request.text === 'short') await new Promise((resolve) => setTimeout(resolve, 150));
      else await new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(call.signal.reason)));
      return { text: 'finished' };
    },
    async talk(_incoming, call, out) {
      started += 1;
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
      out.write({ text: 'the last word' });
    },
  });
  const short = unary(echo.client, 'say', { text: 'short' });
  const long = unary(echo.client, 'say', { text: 'long' });
  const talk = bidi(echo.client, 'talk');
  await until(() => started === 3, 'the handlers');
  const startedMs = performance.now();
  const draining = echo.server.drain(400);
  await assert.rejects(unary(echo.client, 'say', {}), (error: QuernError) => {
    assert.deepEqual([error.code, error.details.reason], ['UNAVAILABLE', 'DRAINING']);
    assert.ok(error.details.retryAfterMs! > 0);
    return true;
  });
  assert.deepEqual(await short, { text: 'finished' });
  await assert.rejects(long, { code: 'UNAVAILABLE', details: { reason: 'DRAINING' } });
  const words: unknown[] = [];
  for await (const message of talk.responses) words.push(message);
  assert.deepEqual(words, [{ text: 'the last word' }], 'an aborted handler may still write its end');
  await draining;
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs >= 395 && tookMs < 20_000, `${tookMs} ms`);
  await echo.server.close();
});

test('drain of an idle server is immediate; close aborts what runs and is idempotent', async (t) => {
  let aborted: unknown = null;
  let started = false;
  const echo = await startEcho(t, {
    say: (_request, call) =>
      new Promise((_, reject) => {
        started = true;
        call.signal.addEventListener('abort', () => {
          aborted = call.signal.reason;
          reject(aborted);
        });
      }),
  });
  const idle = await startEcho(t);
  const startedMs = performance.now();
  await idle.server.drain(30_000);
  assert.ok(performance.now() - startedMs < 20_000);
  const call = unary(echo.client, 'say', {});
  call.catch(() => {});
  await until(() => started, 'the handler');
  await Promise.all([echo.server.close(), echo.server.close()]);
  await assert.rejects(call, { code: 'UNAVAILABLE' });
  assert.equal((aborted as QuernError).details.reason, 'DRAINING');
});
