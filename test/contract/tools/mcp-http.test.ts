/** MCP servers over streamable HTTP: a real one, and ones that break the rules of the way out. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listenLocal, openMcpWorld } from './support/mcp.ts';

type Message = { id?: number; method?: string; params?: { name?: string; arguments?: Record<string, unknown> } };
type Answer = (message: Message, request: IncomingMessage, response: ServerResponse) => unknown;

const TOOL = { name: 'go', description: 'Goes', inputSchema: { type: 'object' } };
const text = (value: string) => ({ content: [{ type: 'text', text: value }] });

/** Answers as a plain server does; `go` answers tools/call: undefined when it has answered by itself. */
function plain(go: Answer, seen: IncomingMessage[] = []): RequestListener {
  return (request, response) => {
    seen.push(request);
    let body = '';
    request.on('data', (part) => {
      body += part;
    });
    request.on('end', () => {
      if (request.method !== 'POST') return response.writeHead(request.method === 'DELETE' ? 200 : 405).end();
      const message = JSON.parse(body) as Message;
      const reply = (result: unknown) => {
        response.writeHead(200, { 'content-type': 'application/json', 'mcp-session-id': 'abc' });
        response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }));
      };
      const serverInfo = { name: 'fake', version: '1' };
      if (message.method === 'initialize')
        reply({ protocolVersion: '2025-06-18', capabilities: { tools: {} }, serverInfo });
      else if (message.method === 'tools/list') reply({ tools: [TOOL] });
      else if (message.id === undefined) response.writeHead(202).end();
      else {
        const result = go(message, request, response);
        if (result !== undefined) reply(result);
      }
    });
  };
}

const local = (url: string, more: Record<string, unknown> = {}) => ({ far: { url, allow_private: true, ...more } });

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

async function startEverything(t: TestContext): Promise<string> {
  const port = await freePort();
  const root = join(import.meta.dirname, '../../../node_modules/@modelcontextprotocol/server-everything');
  const child = spawn(process.execPath, [join(root, 'dist/index.js'), 'streamableHttp'], {
    env: { PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  let said = '';
  for await (const part of child.stderr) {
    said += part;
    if (said.includes('listening')) break;
  }
  return `http://127.0.0.1:${port}/mcp`;
}

test('a real server from npm over HTTP: tools, calls, cancel, a conversation per tenant', async (t) => {
  const world = await openMcpWorld(t, local(await startEverything(t)));
  const [status] = world.servers.status();
  assert.equal(status?.state, 'listed', status?.problems.join());
  const [tool] = world.registry.list();
  assert.deepEqual([tool?.definition.kind, tool?.definition.annotations.openWorld], ['mcp', true]);
  assert.deepEqual(tool?.definition.policy.taint, { readUntrusted: true, hasPrivate: false, canExfiltrate: true });
  const echo = await world.call('far__echo', { message: 'hi' });
  assert.deepEqual([echo.outcome, echo.content], ['ok', 'Echo: hi'], echo.message);
  assert.equal((await world.call('far__echo', { message: 'hi' }, { tenant: 'rival' })).outcome, 'ok');
  assert.equal(world.servers.sessions, 2);
  const slow = await world.call(
    'far__trigger-long-running-operation',
    { duration: 30, steps: 3 },
    { limits: { wallMs: 500 } },
  );
  assert.equal(slow.outcome, 'timeout_wall');
  assert.equal(world.servers.sessions, 1, 'the conversation ended with the call');
});

test('credentials come from a file of the host; the session is ended with a farewell', async (t) => {
  const seen: IncomingMessage[] = [];
  const { url } = await listenLocal(
    t,
    plain(() => text('ok'), seen),
  );
  const path = join(tmpdir(), `quern-mcp-headers-${process.pid}`);
  await writeFile(path, '# token\nAuthorization: Bearer s3cret\n', { mode: 0o600 });
  const world = await openMcpWorld(t, local(url, { headers_file: path, idle_ms: 1_000 }));
  assert.equal((await world.call('far__go')).content, 'ok');
  assert(seen.length > 3 && seen.every(({ headers }) => headers.authorization === 'Bearer s3cret'));
  assert(seen.every(({ headers }) => headers['accept-encoding'] === 'identity'));
  for (let waited = 0; waited < 100 && world.servers.sessions > 0; waited++) await sleep(50);
  assert.equal(seen.at(-1)?.method, 'DELETE');
  assert.equal(seen.at(-1)?.headers['mcp-session-id'], 'abc');
  for (const [content, message] of [
    ['Authorization Bearer', /line 1: expected "Name: value"/],
    ['Host: example.com', /the header Host is not for a file to set/],
  ] as const) {
    await writeFile(path, content);
    const other = await openMcpWorld(t, local(url, { headers_file: path }));
    assert.match(other.servers.status()[0]?.problems.join() ?? '', message);
  }
});

test('only public addresses are asked, unless the pack says otherwise; one refused address refuses the name', async (t) => {
  const { url } = await listenLocal(
    t,
    plain(() => text('reached')),
  );
  const port = new URL(url).port;
  const cases: [string, readonly string[]][] = [
    [`http://127.0.0.1:${port}/mcp`, []],
    [`http://2130706433:${port}/mcp`, []],
    [`http://inside.example:${port}/mcp`, ['127.0.0.1']],
    [`http://both.example:${port}/mcp`, ['93.184.216.34', '169.254.169.254']],
  ];
  for (const [address, resolved] of cases) {
    const world = await openMcpWorld(t, { far: { url: address } }, async () => resolved);
    assert.match(world.servers.status()[0]?.problems.join() ?? '', /which is not a public address/, address);
  }
  const named = { far: { url: `http://inside.example:${port}/mcp`, allow_private: true } };
  const world = await openMcpWorld(t, named, async () => ['127.0.0.1']);
  assert.equal((await world.call('far__go')).content, 'reached', 'control');
});

test('a redirect to another origin is not followed, and nothing is sent there', async (t) => {
  const stolen: IncomingMessage[] = [];
  const elsewhere = await listenLocal(
    t,
    plain(() => text('stolen'), stolen),
  );
  const { url } = await listenLocal(
    t,
    plain((_, __, response) => void response.writeHead(307, { location: elsewhere.url }).end()),
  );
  const world = await openMcpWorld(t, local(url));
  const result = await world.call('far__go');
  assert.equal(result.outcome, 'nonzero_exit');
  assert.match(result.message, /Redirect to .* not followed/);
  assert.equal(stolen.length, 0);
});

test('answers that are too large, packed, broken off or no protocol are typed failures within their bound', async (t) => {
  const ways: Record<string, Answer> = {
    flood: (_, __, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const more = (): void =>
        void (response.destroyed || response.write('x'.repeat(65_536), () => setImmediate(more)));
      more();
    },
    packed: (_, __, response) =>
      void response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }).end('x'),
    broken: (_, __, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('event: message\nid: 1\nretry: 0\ndata: {"jsonrpc"', () => response.destroy());
    },
    html: (_, __, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
    refused: (_, __, response) => void response.writeHead(401).end('who are you'),
    hung: () => undefined,
  };
  const { url } = await listenLocal(
    t,
    plain(
      (message, request, response) =>
        ways[String(message.params?.arguments?.x)]?.(message, request, response) as undefined,
    ),
  );
  const world = await openMcpWorld(t, local(url));
  const call = (x: string) => world.call('far__go', { x }, { limits: { outputBytes: 2 * 1024 ** 2, wallMs: 5_000 } });
  const messages: Record<string, RegExp> = {
    flood: /it sent more than 2097152 bytes/,
    packed: /an answer in the encoding "gzip"/,
    broken: /SSE stream disconnected|connection broke/,
    html: /Unexpected content type/,
    refused: /who are you/,
  };
  for (const [x, message] of Object.entries(messages)) {
    const result = await call(x);
    assert.equal(result.outcome, 'nonzero_exit', `${x}: ${result.message}`);
    assert.match(result.message, message, x);
  }
  assert.equal((await world.call('far__go', { x: 'hung' }, { limits: { wallMs: 400 } })).outcome, 'timeout_wall');
  for (let waited = 0; waited < 1_000 && world.servers.sessions > 0; waited++) await sleep(20);
  assert.equal(world.servers.sessions, 0);
});
