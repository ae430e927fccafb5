/** http_fetch from Execute to the page and back: the real guard in its own process, a server of the test's, nothing else let through. */
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { httpFetchTool } from '../../../services/tools/builtin/http-fetch.ts';
import { createEgress } from '../../../services/tools/egress/egress.ts';
import { outcomeOf, resultOf, run, setUp } from './support/service.ts';

async function serve(t: TestContext, listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function open(t: TestContext, listener: RequestListener) {
  const port = await serve(t, listener);
  // The one address that a test may dial although it is not public; the rules hold for all others.
  const egress = createEgress({ allow: ['127.0.0.1'], ports: [port], credentials: {}, testAddresses: ['127.0.0.1'] });
  t.after(() => egress.close());
  const { client } = await setUp(t, { tools: [httpFetchTool(egress)] });
  const origin = `http://127.0.0.1:${port}`;
  const fetch = async (args: Record<string, unknown>, more: Parameters<typeof run>[1] = {}) => {
    const events = await run(client, { tool: 'http_fetch', argumentsJson: JSON.stringify(args), ...more });
    const kinds = events.map(({ event }) => event?.$case);
    const started = events.flatMap(({ event }) => (event?.$case === 'started' ? [event.value.tier] : []));
    return { ...resultOf(events), outcome: outcomeOf(events), kinds, started };
  };
  return { origin, port, fetch };
}

test('a page comes back: status, headers and text for the model, numbers as the structured result', async (t) => {
  const seen: string[] = [];
  const { origin, fetch } = await open(t, (request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.accept}`);
    if (request.url === '/moved') return void response.writeHead(302, { location: '/page' }).end();
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.setHeader('content-encoding', 'gzip');
    if (request.url === '/none') return void response.writeHead(204).end();
    if (request.url === '/empty') return void response.writeHead(200, { 'content-length': 0 }).end();
    response.end(request.method === 'HEAD' ? undefined : gzipSync('<h1>grüezi</h1>'));
  });
  const page = await fetch({ url: `${origin}/moved`, accept: 'text/html' });
  assert.equal(page.outcome, 'ok', page.message);
  assert.deepEqual([page.kinds, page.started], [['started', 'result'], ['host']]);
  assert.match(
    page.content,
    new RegExp(`^HTTP 200 ${origin}/page\\n(?:.+\\n)*content-type: text/html; charset=utf-8\\n`),
  );
  assert(page.content.endsWith('\n\n<h1>grüezi</h1>'), page.content);
  const { status, url, bytes, cut } = JSON.parse(page.structuredJson);
  assert.deepEqual([status, url, bytes, cut], [200, `${origin}/page`, 16, false]);
  assert.deepEqual(page.taint, { readUntrusted: true, hasPrivate: false, canExfiltrate: true });
  const head = await fetch({ url: `${origin}/page`, method: 'HEAD' });
  assert.equal(head.outcome, 'ok', head.message);
  assert.deepEqual([head.outcome, JSON.parse(head.structuredJson).bytes], ['ok', 0]);
  for (const path of ['/none', '/empty']) {
    const nothing = await fetch({ url: `${origin}${path}` });
    assert.equal(nothing.outcome, 'ok', nothing.message);
  }
  seen.splice(3);
  assert.deepEqual(seen, ['GET /moved text/html', 'GET /page text/html', 'HEAD /page */*']);
});

test('what is no text is named, what is too long is cut, what failed says so', async (t) => {
  const { origin, fetch } = await open(t, (request, response) => {
    if (request.url === '/image') response.setHeader('content-type', 'image/png');
    if (request.url === '/gone') response.statusCode = 404;
    response.end('x'.repeat(1_000));
  });
  const image = await fetch({ url: `${origin}/image` });
  assert.match(image.content, /\[1000 bytes of image\/png\]$/);
  const cut = await fetch({ url: `${origin}/`, bytes: 10 });
  assert.match(cut.content, /\nx{10}\n\[cut\]$/);
  assert.equal(JSON.parse(cut.structuredJson).cut, true);
  const gone = await fetch({ url: `${origin}/gone` });
  assert.deepEqual([gone.outcome, gone.message], ['nonzero_exit', 'the server answered 404']);
  assert.match(gone.content, /^HTTP 404 /);
});

test('the same guard lets nothing else through: another port, name or address, also by a redirect', async (t) => {
  let hits = 0;
  const other = await serve(t, (_, response) => {
    hits++;
    response.end('secret');
  });
  const { origin, port, fetch } = await open(t, (request, response) => {
    const to = request.url === '/port' ? `http://127.0.0.1:${other}/` : `http://localhost:${port}/`;
    response.writeHead(307, { location: to }).end();
  });
  const urls = [
    `http://127.0.0.1:${other}/`,
    `http://localhost:${port}/`,
    `http://[::1]:${port}/`,
    'file:///etc/passwd',
  ];
  for (const url of [...urls, `${origin}/port`, `${origin}/name`]) {
    const { outcome, message, content } = await fetch({ url });
    assert.equal(outcome, 'nonzero_exit', `${url}: ${content}`);
    assert.notEqual(message, '', url);
    assert(!content.includes('secret'), url);
  }
  assert.equal(hits, 0);
});

test('a server that does not answer is told at the limit', async (t) => {
  const { origin, fetch } = await open(t, () => {});
  const limits = { wallMs: 300, cpuMs: undefined, memoryMib: undefined, pids: undefined, outputKib: undefined };
  const slow = await fetch({ url: `${origin}/` }, { limits: { ...limits, modelOutputKib: undefined } });
  assert(['nonzero_exit', 'timeout_wall'].includes(slow.outcome), slow.outcome);
  assert.match(slow.message, /no answer within 300 ms|ended after 300 ms/);
});
