/** MCP servers in packs: what may stand there, and what it means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { MCP_IDLE_MS, MCP_PROCESS_LIMITS } from '../../../../services/tools/mcp/limits.ts';
import type { HttpServer, StdioServer } from '../../../../services/tools/mcp/server-spec.ts';
import { isServerName, registeredName } from '../../../../services/tools/mcp/tool-names.ts';
import { parsePack } from '../../../../services/tools/tool-pack.ts';

const parse = (servers: unknown) => parsePack(JSON.stringify({ mcp_servers: servers })).servers;

test('a server in the sandbox: closed unless the pack opens it', () => {
  const [server] = parse({ files: { command: 'node', args: ['/opt/files/index.js'] } }) as [StdioServer];
  assert.deepEqual([server.kind, server.command, server.args], ['stdio', 'node', ['/opt/files/index.js']]);
  assert.deepEqual([server.workspace, server.network, server.binds, server.env], ['none', 'none', [], {}]);
  assert.deepEqual([server.idleMs, server.tools, server.accept], [MCP_IDLE_MS, null, []]);
  assert.deepEqual(server.processLimits, MCP_PROCESS_LIMITS);
  assert.deepEqual(server.taint, { readUntrusted: true, hasPrivate: false, canExfiltrate: false });
  const [open] = parse({
    files: { command: '/usr/bin/x', workspace: 'read', network: 'proxy', process: { memory_mib: 64 } },
  }) as [StdioServer];
  assert.deepEqual(open.taint, { readUntrusted: true, hasPrivate: true, canExfiltrate: true });
  assert.equal(open.processLimits.memoryBytes, 64 * 1024 ** 2);
});

test('a remote server: arguments leave the host', () => {
  const [server] = parse({ far: { url: 'https://mcp.example.com/v1', headers_file: '/etc/quern/far' } }) as [
    HttpServer,
  ];
  assert.deepEqual([server.kind, server.url.href, server.allowPrivate], ['http', 'https://mcp.example.com/v1', false]);
  assert.equal(server.headersFile, '/etc/quern/far');
  assert.equal(server.taint.canExfiltrate, true);
});

test('tools and servers stand in one pack', () => {
  const tool = { name: 'echo', command: { argv: ['/usr/bin/echo'] } };
  const pack = parsePack(JSON.stringify({ tools: [tool], mcp_servers: { a: { command: 'bash' } } }));
  assert.deepEqual([pack.tools.length, pack.servers.length], [1, 1]);
});

test('mistakes are told with their place', () => {
  const cases: [unknown, RegExp][] = [
    [{ Upper: { command: 'node' } }, /mcp_servers\.Upper: expected a name of at most 24/],
    [{ a__b: { command: 'node' } }, /mcp_servers\.a__b/],
    [{ a: { command: 'npx' } }, /mcp_servers\.a\.command/],
    [{ a: { command: '/usr/../bin/x' } }, /mcp_servers\.a\.command/],
    [{ a: { command: 'node', shell: true } }, /mcp_servers\.a/],
    [{ a: { url: 'ftp://example.com' } }, /mcp_servers\.a\.url: expected http/],
    [{ a: { url: 'https://user:secret@example.com' } }, /mcp_servers\.a\.url: expected http/],
    [{ a: { url: 'https://example.com', command: 'node' } }, /mcp_servers\.a/],
    [{ a: { url: 'https://example.com', headers: { authorization: 'x' } } }, /mcp_servers\.a/],
    [{ a: { command: 'node', accept: ['abc'] } }, /mcp_servers\.a\.accept\[0\]: expected a SHA-256/],
    [{ a: { command: 'node', process: { wall_ms: 5 } } }, /mcp_servers\.a\.process\.wall_ms/],
    [{ a: { command: 'node', env: { 'A B': 'x' } } }, /mcp_servers\.a\.env/],
    [[], /mcp_servers/],
  ];
  for (const [servers, message] of cases) {
    assert.throws(
      () => parse(servers),
      (error: unknown) => {
        assert(error instanceof QuernError, String(error));
        assert.equal(error.code, 'INVALID_ARGUMENT');
        assert.match(error.message, message);
        assert(!error.message.includes('secret'), 'a credential is not repeated');
        return true;
      },
    );
  }
});

test('names: server__tool, shortened with a digest, never two for one', () => {
  assert.equal(registeredName('files', 'read_file'), 'files__read_file');
  assert.match(registeredName('files', 'a.b/c'), /^files__a_b_c_[0-9a-f]{8}$/);
  assert.notEqual(registeredName('files', 'a.b'), registeredName('files', 'a/b'));
  const long = 'n'.repeat(200);
  assert.equal(registeredName('files', long).length, 64);
  assert.notEqual(registeredName('files', `${long}1`), registeredName('files', `${long}2`));
  assert.match(registeredName('files', '…\ud800'), /^files___[0-9a-f_]+$/);
  for (const name of ['a', 'my-server', 'a_b', 'a1']) assert(isServerName(name), name);
  for (const name of ['', 'a_', '_a', 'a__b', 'A', 'a.b', 'a'.repeat(25)]) assert(!isServerName(name), name);
});
