/** What one answer of an MCP server may cost, and what of it is read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js';
import type { QuernError } from '#kit/errors.ts';
import { McpConnection } from '../../../../services/tools/mcp/connection.ts';
import type { Link } from '../../../../services/tools/mcp/link.ts';

const { signal } = new AbortController();
type Answer = { result: Record<string, unknown> } | { error: { code: number; message: string } };
const TOOL = { name: 'go', inputSchema: { type: 'object' } };
const START = {
  protocolVersion: '2025-06-18',
  capabilities: { tools: {} },
  serverInfo: { name: 'fake', version: '1' },
};

/** A server in this process; what `answers` leaves out is answered as a plain server does. */
function linkOf(answers: Partial<Record<string, () => Answer>>): Link {
  const { promise: ended, resolve } = Promise.withResolvers<string>();
  const usual: Record<string, () => Answer> = {
    initialize: () => ({ result: START }),
    'tools/list': () => ({ result: { tools: [TOOL] } }),
  };
  const transport: Transport = {
    start: async () => {},
    close: async () => resolve('it was ended'),
    async send(message: JSONRPCMessage) {
      if (!('method' in message) || !('id' in message)) return;
      const answer = (answers[message.method] ?? usual[message.method])?.();
      if (answer) setImmediate(() => transport.onmessage?.({ jsonrpc: '2.0', id: message.id, ...answer }));
    },
  };
  const stop = async (): Promise<string> => {
    resolve('it was ended');
    return ended;
  };
  return { transport, ended, allow: () => {}, isWorn: () => false, stop };
}

async function call(answer: Answer) {
  const connection = await McpConnection.open(linkOf({ 'tools/call': () => answer }), { signal });
  return connection.call('go', {}, { signal, outputBytes: 1 });
}

const CHANGED: JSONRPCMessage = { jsonrpc: '2.0', method: 'notifications/tools/list_changed' };
const hurry = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const empties = (count: number): object[] => Array.from({ length: count }, () => ({}));

async function cpuMs(run: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

test('a result of a hundred thousand broken parts is refused at its first', async () => {
  const spent = await cpuMs(() =>
    assert.rejects(call({ result: { content: empties(100_000) } }), { message: /not what the protocol says/ }),
  );
  assert.ok(spent < 1_000, `${spent} ms`);
});

test('parts behind the bound are counted, not read', async () => {
  const texts = Array.from({ length: 256 }, () => ({
    type: 'text',
    text: 'x',
    annotations: { audience: empties(1_000) },
  }));
  const { content, left } = await call({ result: { content: [...texts, ...empties(100_000)] } });
  assert.deepEqual([content.length, left, content[0]], [256, 100_000, { type: 'text', text: 'x' }]);
});

test('an initialize of a hundred thousand broken icons and a list of as many tools cost little', async () => {
  const serverInfo = { ...START.serverInfo, icons: empties(100_000) };
  const capabilities = {
    tools: { listChanged: empties(100) },
    experimental: Object.fromEntries(empties(50_000).entries()),
  };
  const answers = {
    initialize: () => ({ result: { ...START, serverInfo, capabilities } }),
    'tools/list': () => ({ result: { tools: [TOOL, ...empties(200_000)] } }),
  };
  let problems: readonly string[] = [];
  const spent = await cpuMs(async () => {
    const connection = await McpConnection.open(linkOf(answers), { signal });
    const listing = await connection.listing({ signal });
    assert.deepEqual([...listing.tools.keys()], ['go']);
    problems = listing.problems;
  });
  assert.match(problems.at(-1) ?? '', /more than 128 tools/);
  assert.ok(spent < 1_500, `${spent} ms`);
});

test('definitions full of broken icons and schemas cost little, and the schemas are for the checker to refuse', async () => {
  const required = Array(40_000).fill(1);
  const tools = Array.from({ length: 16 }, (_, i) => ({ ...TOOL, name: `t${i}`, icons: empties(40_000) }));
  const odd = tools.map(({ name }) => ({ name: `odd-${name}`, inputSchema: { type: 'object', required } }));
  const answers = { 'tools/list': () => ({ result: { tools: [...tools, ...odd, { name: 'bare' }] } }) };
  const spent = await cpuMs(async () => {
    const connection = await McpConnection.open(linkOf(answers), { signal });
    const listing = await connection.listing({ signal });
    assert.equal(listing.tools.size, 32);
    assert.match(listing.problems.join(), /"bare" is left out: inputSchema: expected a JSON Schema/);
  });
  assert.ok(spent < 1_000, `${spent} ms`);
});

test('what a server says of an error is short, plain text, and comes without a cause', async () => {
  for (const [code, expected] of [
    [-32602, 'INVALID_ARGUMENT'],
    [-32000, 'ABORTED'],
  ] as const) {
    const message = `bad\u001b[31m \u202e${'x'.repeat(1_000_000)}`;
    const error = await call({ error: { code, message } }).then(
      () => null,
      (thrown: QuernError) => thrown,
    );
    assert.equal(error?.code, expected);
    assert.match(error?.message ?? '', /bad x+$/);
    assert.ok((error?.message.length ?? 0) < 1_000);
    assert.equal(error?.cause, undefined);
  }
});

test('a list that two calls wait for does not end with the call that asked for it first', async () => {
  const hold = Promise.withResolvers<void>();
  let lists = 0;
  const link = linkOf({
    'tools/list': () => {
      lists += 1;
      return { result: { tools: [TOOL] } };
    },
  });
  const connection = await McpConnection.open(link, { signal });
  link.transport.onmessage?.(CHANGED);
  await hurry();
  const send = link.transport.send.bind(link.transport);
  link.transport.send = async (message) => {
    await hold.promise;
    await send(message);
  };
  const leaver = new AbortController();
  const first = connection.listing({ signal: leaver.signal });
  const second = connection.listing({ signal });
  leaver.abort(new Error('the first call is cancelled'));
  await assert.rejects(first, { message: 'the first call is cancelled' });
  hold.resolve();
  assert.deepEqual([...(await second).tools.keys()], ['go']);
  assert.equal(lists, 2);
});
