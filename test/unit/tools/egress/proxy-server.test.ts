import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect, createServer as createNetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { QuernError } from '#kit/errors.ts';
import { type EgressProxy, startEgressProxy } from '../../../../services/tools/egress/egress-proxy.ts';
import type { EgressSettings } from '../../../../services/tools/egress/guarded-fetch.ts';
import { proxiedJail } from '../../../../services/tools/egress/proxied-jail.ts';
import { createProxyServer } from '../../../../services/tools/egress/proxy-server.ts';
import type { Jail } from '../../../../services/tools/jail/sandbox.ts';

async function serve(t: TestContext) {
  const hits: string[] = [];
  const site = createServer((incoming, response) => {
    const parts: Buffer[] = [];
    incoming.on('data', (data: Buffer) => parts.push(data));
    incoming.on('end', () => {
      const names = Object.keys(incoming.headers).filter((name) => name.startsWith('x-') || name.startsWith('proxy-'));
      hits.push(`${incoming.method} ${incoming.headers.host} ${incoming.url} ${names.join(',')}`);
      response.end(`site:${Buffer.concat(parts)}`);
    });
  });
  await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    site.closeAllConnections();
    site.close();
  });
  const { port } = site.address() as AddressInfo;
  const settings: EgressSettings = {
    allow: ['site.test'],
    ports: [port],
    credentials: {},
    testAddresses: ['127.0.0.1'],
  };
  return { port, hits, settings };
}

async function open(
  t: TestContext,
  settings: EgressSettings,
  resolve = async (_: string): Promise<string[]> => ['127.0.0.1'],
) {
  const folder = mkdtempSync(join(tmpdir(), 'quern-proxy-'));
  const path = join(folder, 's');
  const server = createProxyServer(settings, resolve);
  await new Promise<void>((done) => server.listen(path, done));
  t.after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });
  return path;
}

type Answer = { status: number; text: string };

function ask(
  socketPath: string,
  url: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, body = '' } = options;
    const outgoing = request({ socketPath, path: url, method, headers, agent: false }, (response) => {
      let text = '';
      response.on('data', (data: Buffer) => {
        text += data;
      });
      response.on('end', () => resolve({ status: response.statusCode!, text }));
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** Opens a tunnel and sends one request through it; all that came back. */
function throughTunnel(socketPath: string, authority: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let received = '';
    let isSent = false;
    socket.on('data', (data) => {
      received += data;
      if (!isSent && received.startsWith('HTTP/1.1 200')) {
        isSent = true;
        socket.write(text);
      }
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(received));
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n`);
  });
}

test('plain requests to an allowed host are made, under its own name', async (t) => {
  const { port, hits, settings } = await serve(t);
  const path = await open(t, settings);
  const headers = {
    host: 'other.test',
    'proxy-authorization': 'x',
    'x-mine': '1',
    'x-gone': '1',
    connection: 'x-gone',
  };
  const answer = await ask(path, `http://site.test:${port}/a?b`, { method: 'POST', headers, body: 'body' });
  assert.deepEqual(answer, { status: 200, text: 'site:body' });
  assert.deepEqual(hits, [`POST site.test:${port} /a?b x-mine`]);
});

test('a tunnel leads to an allowed host and port', async (t) => {
  const { port, settings } = await serve(t);
  const path = await open(t, settings);
  const received = await throughTunnel(
    path,
    `site.test:${port}`,
    'GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
  );
  assert.match(received, /Connection Established[\s\S]*site:$/);
});

test('everything else is refused with the reason, and reaches nobody', async (t) => {
  const { port, hits, settings } = await serve(t);
  const path = await open(t, settings);
  const plain = [
    `http://other.test:${port}/`,
    `http://127.0.0.1:${port}/`,
    `http://site.test:${port + 1}/`,
    'http://site.test/',
    `https://site.test:${port}/`,
    '/',
    `http://u@site.test:${port}/`,
  ];
  for (const url of plain) {
    const { status, text } = await ask(path, url);
    assert.equal(status, 403, url);
    assert.match(text, /^egress: /);
  }
  const odd = [
    `other.test:${port}`,
    `127.1:${port}`,
    `[::1]:${port}`,
    'site.test:22',
    `site.test@127.0.0.1:${port}`,
    'site.test',
    `127.0.0.1:${port}/x`,
    `site.test\u0000:${port}`,
  ];
  for (const authority of odd) assert.doesNotMatch(await throughTunnel(path, authority, 'GET /'), /200/, authority);
  const inner = await open(t, { ...settings, testAddresses: [] });
  assert.match((await ask(inner, `http://site.test:${port}/`)).text, /not a public address/);
  assert.match(await throughTunnel(inner, `site.test:${port}`, 'GET /'), /403[\s\S]*not a public address/);
  assert.deepEqual(hits, []);
});

test('a name is asked for once, and a side that goes ends the other', async (t) => {
  const { port, settings } = await serve(t);
  let asked = 0;
  const path = await open(t, settings, async () => [++asked === 1 ? '127.0.0.1' : '10.0.0.1']);
  assert.match(await throughTunnel(path, `site.test:${port}`, 'GET / HTTP/1.0\r\n\r\n'), /site:/);
  assert.equal(asked, 1);

  const closed: string[] = [];
  const silent = createNetServer((socket) =>
    socket.on('error', () => undefined).on('close', () => closed.push('outer')),
  );
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.after(() => silent.close());
  const silentPort = (silent.address() as AddressInfo).port;
  const other = await open(t, { ...settings, ports: [silentPort] });
  const socket = connect(other);
  socket.write(`CONNECT site.test:${silentPort} HTTP/1.1\r\n\r\n`);
  await new Promise((resolve) => socket.once('data', resolve));
  socket.destroy();
  for (let i = 0; i < 100 && closed.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(closed, ['outer']);
});

test('the proxy has a process of its own, and goes with its socket', async (t) => {
  const { port, settings } = await serve(t);
  const folder = mkdtempSync(join(tmpdir(), 'quern-proxy-'));
  const path = join(folder, 's');
  const failures: unknown[] = [];
  const options = { onFailure: (error: unknown) => void failures.push(error) };
  const proxy: EgressProxy = await startEgressProxy(path, { ...settings, allow: ['127.0.0.1'] }, options);
  t.after(async () => {
    await proxy.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const url = `http://127.0.0.1:${port}/`;
  assert.equal((await ask(path, url)).text, 'site:');
  assert.equal((await ask(path, 'http://10.0.0.1/')).status, 403);
  await proxy.close();
  assert(!existsSync(path));
  await assert.rejects(startEgressProxy(path, { ...settings, allow: ['*'] }, options), { code: 'INVALID_ARGUMENT' });
  assert.deepEqual(failures, []);
});

test('a proxy that cannot listen is told once, and comes up when it can', async (t) => {
  const { settings } = await serve(t);
  const folder = mkdtempSync(join(tmpdir(), 'quern-proxy-'));
  const path = join(folder, 'later', 's');
  const failures: unknown[] = [];
  const proxy = await startEgressProxy(path, settings, { onFailure: (error) => void failures.push(error) });
  t.after(async () => {
    await proxy.close();
    rmSync(folder, { recursive: true, force: true });
  });
  assert.equal(proxy.listening, false);
  const inner = { run: async () => 'ran' } as unknown as Jail;
  const jail = proxiedJail(inner, { node: '/usr/bin/node', socket: '/run/s', isUp: () => proxy.listening });
  const run = (network: 'none' | 'proxy') => jail.run({ network, argv: ['/x'], env: {} } as never, {} as never);
  await assert.rejects(run('proxy'), { code: 'UNAVAILABLE' });
  assert.equal(await run('none'), 'ran');
  mkdirSync(join(folder, 'later'));
  for (let i = 0; i < 500 && !proxy.listening; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal((await ask(path, 'http://10.0.0.1/')).status, 403);
  assert.equal(await run('proxy'), 'ran');
  assert.equal(failures.length, 1);
  assert.equal((failures[0] as QuernError).code, 'UNAVAILABLE');
});

test('an answer that may not be passed on is a refusal, and the proxy goes on', async (t) => {
  const odd = createNetServer((socket) =>
    socket.on('error', () => undefined).end('HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n'),
  );
  await new Promise<void>((resolve) => odd.listen(0, '127.0.0.1', resolve));
  t.after(() => odd.close());
  const { port } = odd.address() as AddressInfo;
  const { settings } = await serve(t);
  const path = await open(t, { ...settings, ports: [port] });
  for (let i = 0; i < 2; i++) assert.equal((await ask(path, `http://site.test:${port}/`)).status, 502);
});
