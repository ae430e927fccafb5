/** Commands with `network: proxy`: the allowed host and nothing else, by the proxy and by no other way. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startEgressProxy } from '../../services/tools/egress/egress-proxy.ts';
import { proxiedCommand } from '../../services/tools/egress/proxied-jail.ts';
import { PROXY_SOCKET } from '../../services/tools/jail/launch-options.ts';
import { commandOf, type HostResult, startJail } from './jail-client.ts';

const hits: string[] = [];
const site = createServer((request, response) => {
  hits.push(request.url!);
  response.end('from the site');
});
await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));
const { port } = site.address() as AddressInfo;
const folder = mkdtempSync(join(tmpdir(), 'quern-egress-'));
chmodSync(folder, 0o755);
const proxySocket = join(folder, 'proxy.sock');
const settings = { allow: ['127.0.0.1'], ports: [port], credentials: {}, testAddresses: ['127.0.0.1'] };
const proxy = await startEgressProxy(proxySocket, settings, { onFailure: (error) => assert.ifError(error) });
chmodSync(proxySocket, 0o666); // the host of the jail has another account here
after(async () => {
  await proxy.close();
  site.closeAllConnections();
  site.close();
  rmSync(folder, { recursive: true });
});
const jail = await startJail({ after }, { proxySocket });

/** Runs Python with the network, as the service does. */
function run(
  program: string,
  network: 'proxy' | 'none' = 'proxy',
  stdin: Uint8Array | null = null,
): Promise<HostResult> {
  const command = commandOf([jail.interpreters.python!, '-c', program], { network, stdin });
  const { argv, ...parts } = proxiedCommand(command, { node: jail.interpreters.node!, socket: PROXY_SOCKET });
  return jail.run(argv, parts);
}

const FETCH = `
import sys, urllib.request, urllib.error
def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=10).read().decode()
    except urllib.error.HTTPError as error:
        return str(error.code)
    except Exception as error:
        return type(error).__name__
`;

test('an allowed host is reached through the proxy, others are not', async () => {
  const { stdout, stderr } = await run(`${FETCH}
print(fetch('http://127.0.0.1:${port}/allowed'))
print(fetch('http://169.254.169.254/latest/meta-data/'))
print(fetch('http://localhost:${port}/'))
print(fetch('http://127.0.0.1:${port + 1}/'))`);
  assert.equal(stdout, 'from the site\n403\n403\n403\n', stderr);
  assert.deepEqual(hits, ['/allowed']);
});

test('there is no way beside the proxy', async () => {
  const { stdout } = await run(`
import socket
def tried(host, port):
    try:
        socket.create_connection((host, port), 3); return 'worked'
    except OSError as error:
        return error.strerror or type(error).__name__
print(tried('127.0.0.1', 3128), tried('127.0.0.1', ${port}), tried('1.1.1.1', 80), sep='|')
try:
    print(socket.getaddrinfo('example.com', 80))
except OSError as error:
    print('no names')`);
  assert.equal(stdout, 'worked|Connection refused|Network is unreachable\nno names\n');
});

test('the command keeps its streams and its end', async () => {
  const { stdout, stderr, end } = await run(
    'import sys; print(sys.stdin.read()); sys.stderr.write("e"); sys.exit(7)',
    'proxy',
    Buffer.from('in'),
  );
  assert.equal(stdout, 'in\n');
  assert.equal(stderr, 'e');
  assert.equal(end.exitCode, 7);
  const killed = await run('import os; os.kill(os.getpid(), 9)');
  assert.equal(killed.end.exitCode, 137);
});

test('without network: proxy there is neither socket nor forwarder', async () => {
  const { stdout } = await run(
    `${FETCH}
import os
print(fetch('http://127.0.0.1:${port}/'), os.path.exists('${PROXY_SOCKET}'), 'http_proxy' in os.environ)`,
    'none',
  );
  assert.equal(stdout, 'URLError False False\n');
});
