import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { QuernError } from '#kit/errors.ts';
import { createEgress } from '../../../../services/tools/egress/egress.ts';
import {
  type EgressSettings,
  type FetchRequest,
  guardedFetch,
  type Resolve,
} from '../../../../services/tools/egress/guarded-fetch.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function serve(t: TestContext, handler: Handler): Promise<{ port: number; server: Server; hits: string[] }> {
  const hits: string[] = [];
  const server = createServer((request, response) => {
    hits.push(`${request.method} ${request.headers.host} ${request.url}`);
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, server, hits };
}

const settingsFor = (port: number, more: Partial<EgressSettings> = {}): EgressSettings => ({
  allow: ['site.test', '*.site.test'],
  ports: [port],
  credentials: {},
  testAddresses: ['127.0.0.1'],
  ...more,
});

const GET = (url: string, more: Partial<FetchRequest> = {}): FetchRequest => ({
  url,
  method: 'GET',
  headers: {},
  bytesMax: 2 ** 20,
  ...more,
});

const toLoopback: Resolve = async () => ['127.0.0.1'];
const fetchWith = (
  request: FetchRequest,
  settings: EgressSettings,
  resolve = toLoopback,
  signal = AbortSignal.timeout(5_000),
) => guardedFetch(request, settings, { resolve, signal });

const denied = (pattern: RegExp) => (error: unknown) => {
  assert(error instanceof QuernError, String(error));
  assert.equal(error.details.reason, 'EGRESS_DENIED');
  assert.match(error.message, pattern);
  return true;
};

test('an allowed host is fetched with its own name; the positive control of all that follows', async (t) => {
  const { port, hits } = await serve(t, (_, response) => response.end('hello'));
  const answer = await fetchWith(GET(`http://a.site.test:${port}/x?y=1`), settingsFor(port));
  assert.equal(answer.status, 200);
  assert.equal(Buffer.from(answer.body).toString(), 'hello');
  assert.deepEqual(hits, [`GET a.site.test:${port} /x?y=1`]);
});

test('a name with any address that is not public is not dialled', async (t) => {
  const { port, hits } = await serve(t, (_, response) => response.end('reached'));
  const url = `http://site.test:${port}/`;
  const settings = settingsFor(port, { testAddresses: [] });
  for (const addresses of [
    ['127.0.0.1'],
    ['93.184.216.34', '127.0.0.1'],
    ['::1'],
    ['169.254.169.254'],
    ['::ffff:127.0.0.1'],
  ]) {
    await assert.rejects(
      fetchWith(GET(url), settings, async () => addresses),
      denied(/not a public address/),
    );
  }
  const many = Array.from({ length: 100 }, (_, i) => `8.8.8.${i}`);
  await assert.rejects(
    fetchWith(GET(url), settings, async () => many),
    denied(/more than 64 addresses/),
  );
  assert.deepEqual(hits, []);
});

test('a name that changes its address is dialled where it was checked', async (t) => {
  const { port, hits } = await serve(t, (_, response) => response.end('first'));
  let asked = 0;
  const rebinding: Resolve = async () => [asked++ === 0 ? '127.0.0.1' : '10.0.0.1'];
  assert.equal((await fetchWith(GET(`http://site.test:${port}/`), settingsFor(port), rebinding)).status, 200);
  assert.equal(asked, 1); // the connection asks nobody again
  await assert.rejects(
    fetchWith(GET(`http://site.test:${port}/`), settingsFor(port), rebinding),
    denied(/10\.0\.0\.1/),
  );
  assert.equal(hits.length, 1);
});

test('every redirect is checked like the first URL', async (t) => {
  let target = '';
  const { port, hits } = await serve(t, (request, response) => {
    if (request.url === '/end') response.end('end');
    else response.writeHead(302, { location: target }).end();
  });
  const settings = settingsFor(port);
  const url = `http://site.test:${port}/go`;
  target = '/end';
  const answer = await fetchWith(GET(url), settings);
  assert.equal(answer.url, `http://site.test:${port}/end`);
  const outside = [
    'http://169.254.169.254/latest/meta-data/',
    `http://other.test:${port}/`,
    'file:///etc/passwd',
    'http://127.1/',
    'http://u:p@site.test/',
  ];
  for (target of outside) await assert.rejects(fetchWith(GET(url), settings), denied(/./), target);
  target = '/go';
  hits.length = 0;
  await assert.rejects(fetchWith(GET(url), settings), denied(/more than 5 redirects/));
  assert.equal(hits.length, 6);
  target = `//a.site.test:${port}/end`;
  const metadata: Resolve = async (host) => [host === 'a.site.test' ? '169.254.169.254' : '127.0.0.1'];
  await assert.rejects(fetchWith(GET(url), settings, metadata), denied(/169\.254\.169\.254/));
});

test('credentials go to their origin alone, and what the caller gave stays with the first', async (t) => {
  const seen: Record<string, unknown>[] = [];
  const { port } = await serve(t, (request, response) => {
    seen.push({
      host: request.headers.host,
      authorization: request.headers.authorization,
      own: request.headers['x-own'],
    });
    if (request.url === '/go') response.writeHead(307, { location: `http://b.site.test:${port}/end` }).end();
    else response.end();
  });
  const settings = settingsFor(port, {
    credentials: { [`http://a.site.test:${port}`]: { authorization: 'Bearer secret' } },
  });
  const answer = await fetchWith(GET(`http://a.site.test:${port}/go`, { headers: { 'x-own': '1' } }), settings);
  assert.deepEqual(seen, [
    { host: `a.site.test:${port}`, authorization: 'Bearer secret', own: '1' },
    { host: `b.site.test:${port}`, authorization: undefined, own: undefined },
  ]);
  assert(!JSON.stringify(answer).includes('secret'));
});

test('a body is decoded and cut at its bound, however small it was', async (t) => {
  const zeros = Buffer.alloc(20_000_000);
  const bodies: Record<string, [string, Buffer]> = {
    '/gzip': ['gzip', gzipSync(zeros)],
    '/br': ['br', brotliCompressSync(Buffer.from('small'))],
    '/odd': ['zstd-x', Buffer.from('x')],
  };
  const { port } = await serve(t, (request, response) => {
    const [encoding, body] = bodies[request.url!]!;
    response.writeHead(200, { 'content-encoding': encoding }).end(body);
  });
  const settings = settingsFor(port);
  const bomb = await fetchWith(GET(`http://site.test:${port}/gzip`, { bytesMax: 100_000 }), settings);
  assert.equal(bomb.body.length, 100_000);
  assert(bomb.cut);
  const small = await fetchWith(GET(`http://site.test:${port}/br`), settings);
  assert.equal(Buffer.from(small.body).toString(), 'small');
  assert(!small.cut);
  await assert.rejects(fetchWith(GET(`http://site.test:${port}/odd`), settings), /encoding "zstd-x"/);
});

test('a server that does not answer, or not to the end, is given up with the signal', async (t) => {
  const { port } = await serve(t, (request, response) => {
    if (request.url === '/drip') response.write('begin');
  });
  for (const path of ['/silent', '/drip']) {
    const begin = performance.now();
    const signal = AbortSignal.timeout(200);
    await assert.rejects(fetchWith(GET(`http://site.test:${port}${path}`), settingsFor(port), toLoopback, signal));
    assert(performance.now() - begin < 20_000);
  }
});

test('the process of its own fetches, refuses and is cancelled', async (t) => {
  const { port, server } = await serve(t, (request, response) => {
    if (request.url !== '/silent') response.end('from outside');
  });
  const egress = createEgress(settingsFor(port, { allow: ['localhost', '127.0.0.1'] }));
  t.after(() => egress.close());
  const url = `http://127.0.0.1:${port}/`;
  const signal = AbortSignal.timeout(30_000);
  const answer = await egress.fetch(GET(url), { signal });
  assert.equal(Buffer.from(answer.body).toString(), 'from outside');
  await assert.rejects(egress.fetch(GET('http://10.0.0.1/'), { signal }), denied(/./));
  await assert.rejects(egress.fetch(GET(`http://localhost\0.site.test:${port}/`), { signal }), denied(/./));

  const cancel = new AbortController();
  const silent = egress.fetch(GET(`${url}silent`), { signal: cancel.signal });
  const closed = new Promise((resolve) => server.once('connection', (socket) => socket.once('close', resolve)));
  setTimeout(() => cancel.abort(new Error('enough')), 300);
  await assert.rejects(silent, /enough/);
  await closed; // the connection does not outlive the call

  await egress.close();
  await assert.rejects(egress.fetch(GET(url), { signal }), { code: 'UNAVAILABLE' });
});

test('nothing may be reached without the test hook', async (t) => {
  const { port, hits } = await serve(t, (_, response) => response.end('reached'));
  const egress = createEgress(settingsFor(port, { allow: ['127.0.0.1', 'localhost'], testAddresses: [] }));
  t.after(() => egress.close());
  for (const host of ['127.0.0.1', 'localhost', '127.1', '2130706433']) {
    await assert.rejects(
      egress.fetch(GET(`http://${host}:${port}/`), { signal: AbortSignal.timeout(30_000) }),
      denied(/./),
    );
  }
  assert.deepEqual(hits, []);
  assert.throws(() => createEgress(settingsFor(1, { allow: ['*'] })), { code: 'INVALID_ARGUMENT' });
});
