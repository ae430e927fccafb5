/** What of the kernel a command reaches: each refusal beside the same call outside, or its allowed twin inside. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { WORK } from '../../services/tools/jail/launch-options.ts';
import { DENIED_GROUPS, ERRNO } from '../../services/tools/jail/seccomp-table.ts';
import { type Argument, SyscallOrders } from '../../services/tools/jail/syscall-runner.ts';
import { type JailClient, startJail, startWholeJail } from './jail-client.ts';
import { type Caller, makeCaller } from './outside.ts';

const jail = await startWholeJail({ after });
const caller = makeCaller({ after }, jail);

/** A jail with an egress proxy's socket, which here only accepts. */
async function startProxied(): Promise<Caller> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-proxy-'));
  chmodSync(folder, 0o755);
  const socket = join(folder, 'proxy.sock');
  const server = createServer((connection) => connection.end('proxy'));
  server.listen(socket);
  await once(server, 'listening');
  chmodSync(socket, 0o666);
  after(() => {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  proxiedJail = await startJail({ after }, { proxySocket: socket });
  const missing = proxiedJail.capabilities.list.filter(({ available }) => !available);
  assert.equal(proxiedJail.capabilities.tier, 'A', JSON.stringify(missing));
  return makeCaller({ after }, proxiedJail);
}

let proxiedJail: JailClient;
const proxied = await startProxied();

const EPERM = -ERRNO.EPERM;
const ENOSYS = -ERRNO.ENOSYS;
const EAFNOSUPPORT = -ERRNO.EAFNOSUPPORT;
const CLONE_NEWUSER = 0x10000000;
const SIGCHLD = 17;

type Case = { name: string; number: number; args: Argument[]; inside: number; outside?: 'works' };

/** `outside: 'works'` where every kernel that runs this suite allows it to an unprivileged account. */
const cases: Case[] = [
  { name: 'AF_INET', number: 41, args: [2, 1, 0], inside: EAFNOSUPPORT, outside: 'works' },
  { name: 'AF_INET6', number: 41, args: [10, 2, 0], inside: EAFNOSUPPORT },
  { name: 'AF_VSOCK', number: 41, args: [40, 1, 0], inside: EAFNOSUPPORT },
  { name: 'AF_VSOCK, high bits set', number: 41, args: [(1n << 32n) | 40n, 1, 0], inside: EAFNOSUPPORT },
  { name: 'AF_ALG', number: 41, args: [38, 5, 0], inside: EAFNOSUPPORT },
  { name: 'AF_PACKET', number: 41, args: [17, 3, 0], inside: EAFNOSUPPORT },
  { name: 'io_uring_setup', number: 425, args: [4, new Uint8Array(120)], inside: ENOSYS },
  { name: 'keyctl', number: 250, args: [0, -3, 0], inside: EPERM, outside: 'works' },
  { name: 'add_key', number: 248, args: ['user', 'quern-test', 'x', 1, -2], inside: EPERM },
  { name: 'shmget', number: 29, args: [0, 4096, 0o1600], inside: EPERM, outside: 'works' },
  { name: 'personality', number: 135, args: [0xffffffff], inside: EPERM, outside: 'works' },
  { name: 'unshare user', number: 272, args: [CLONE_NEWUSER], inside: EPERM, outside: 'works' },
  { name: 'unshare network', number: 272, args: [0x40000000], inside: EPERM },
  { name: 'ptrace of PID 1', number: 101, args: [16, 1, 0, 0], inside: EPERM },
  { name: 'process_vm_readv', number: 310, args: [1, 0, 0, 0, 0, 0], inside: EPERM },
  { name: 'bpf', number: 321, args: [0, new Uint8Array(72), 72], inside: EPERM },
  { name: 'perf_event_open', number: 298, args: [new Uint8Array(112), 0, -1, -1, 0], inside: EPERM },
  { name: 'userfaultfd', number: 323, args: [0], inside: EPERM },
  { name: 'mount', number: 165, args: ['none', WORK, 'tmpfs', 0, 0], inside: EPERM },
  { name: 'remount', number: 165, args: ['none', '/', '', 0x20, 0], inside: EPERM },
  { name: 'umount', number: 166, args: ['/etc', 2], inside: EPERM },
  { name: 'fsopen', number: 430, args: ['tmpfs', 0], inside: EPERM },
  { name: 'open_tree', number: 428, args: [-100, '/', 1], inside: EPERM },
  { name: 'mount_setattr', number: 442, args: [-100, '/', 0, new Uint8Array(32), 32], inside: EPERM },
  { name: 'chroot', number: 161, args: ['/tmp'], inside: EPERM },
  { name: 'setns', number: 308, args: [0, 0], inside: EPERM },
  { name: 'open_by_handle_at', number: 304, args: [-100, new Uint8Array(16), 0], inside: EPERM },
  { name: 'TIOCSTI', number: 16, args: [0, 0x5412, 'x'], inside: EPERM },
  { name: 'TIOCSTI, high bits set', number: 16, args: [0, 0x1_0000_5412, 'x'], inside: EPERM },
  { name: 'x32 getpid', number: 0x40000000 + 39, args: [], inside: ENOSYS },
  { name: 'a call of the future', number: 470, args: [], inside: ENOSYS },
];

function ordersFor(list: readonly Case[]): SyscallOrders {
  const orders = new SyscallOrders();
  for (const { number, args } of list) orders.call(number, ...args);
  return orders;
}

test('named surfaces are refused inside', async () => {
  const { answers, exitCode } = await caller.inside(ordersFor(cases));
  assert.equal(exitCode, 0);
  assert.deepEqual(
    cases.map(({ name }, index) => [name, answers[index]?.result]),
    cases.map(({ name, inside }) => [name, inside]),
  );
});

test('the same questions outside are answered', () => {
  const works = cases.filter(({ outside }) => outside === 'works');
  const { answers } = caller.outside(ordersFor(works));
  works.forEach(({ name }, index) => {
    assert((answers[index]?.result ?? -1) >= 0, `${name} gave ${answers[index]?.result} outside`);
  });
});

test('every call of the table is refused by the kernel as the table says', async () => {
  const list = DENIED_GROUPS.flatMap(({ errno, syscalls }) =>
    Object.entries(syscalls).map(([name, number]) => ({ name, number, args: [], inside: -ERRNO[errno] })),
  );
  const { answers, exitCode } = await caller.inside(ordersFor(list));
  assert.equal(exitCode, 0);
  for (const [index, { name, inside }] of list.entries()) assert.equal(answers[index]?.result, inside, name);
});

test('a nested user namespace is refused three ways; plain processes and threads are made', async () => {
  const nested = new SyscallOrders()
    .fork(56, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    .fork(56, (1n << 33n) | BigInt(CLONE_NEWUSER | SIGCHLD), 0, 0, 0, 0)
    .call(272, CLONE_NEWUSER)
    .fork(435, new Uint8Array(88), 88)
    .fork(56, SIGCHLD, 0, 0, 0, 0)
    .fork(57);
  const { answers } = await caller.inside(nested);
  const results = answers.map(({ result }) => result);
  assert.deepEqual(results.slice(0, 4), [EPERM, EPERM, EPERM, ENOSYS]);
  assert(results[4]! > 0 && results[5]! > 0, `clone and fork gave ${results.slice(4)}`);
});

test('i386 calls end the process inside and work outside', async () => {
  const orders = (): SyscallOrders => new SyscallOrders().call(39).int80(20);
  const inside = await caller.inside(orders());
  assert.deepEqual([inside.exitCode, inside.answers.length], [128 + 31, 1]);
  const outside = caller.outside(orders());
  // Where the kernel has no i386 calls at all, the attempt ends by a signal there too.
  assert(outside.answers.length === 2 || outside.signal !== null);
});

test('the network variant lets IP sockets be made, and nothing else', async () => {
  const open = new SyscallOrders().call(41, 2, 1, 0).call(41, 10, 2, 0);
  assert((await caller.inside(open)).answers.every(({ result }) => result === EAFNOSUPPORT));
  const list = cases.filter(({ name }) => !name.startsWith('AF_INET'));
  const { answers } = await proxied.inside(ordersFor(list), 'proxy');
  for (const [index, { name, inside }] of list.entries()) assert.equal(answers[index]?.result, inside, name);
  const sockets = await proxied.inside(open, 'proxy');
  assert(
    sockets.answers.every(({ result }) => result >= 0),
    JSON.stringify(sockets.answers),
  );
});

/** The namespace is empty even so: loopback has nobody, everything else no route. */
test('the proxy is reached by its socket, only where the command may use the network', async () => {
  const program = `import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/proxy.sock'); print(s.recv(9).decode())`;
  const reached = await proxiedJail.python(program, { network: 'proxy' });
  assert.equal(reached.stdout, 'proxy\n', reached.stderr);
  const closed = await proxiedJail.python(program);
  assert.match(closed.stderr, /FileNotFoundError/);
});

test('with the network variant nothing is reachable but the proxy', async () => {
  const address = (family: number, port: number, ip: number[]): Uint8Array =>
    Uint8Array.from([family, 0, port >> 8, port & 255, ...ip, 0, 0, 0, 0, 0, 0, 0, 0]);
  const orders = new SyscallOrders()
    .call(41, 2, 1, 0)
    .call(42, 3, address(2, 80, [1, 1, 1, 1]), 16)
    .call(42, 3, address(2, 80, [169, 254, 169, 254]), 16)
    .call(42, 3, address(2, 22, [127, 0, 0, 1]), 16)
    .call(41, 2, 2, 0)
    .call(42, 4, address(2, 53, [8, 8, 8, 8]), 16);
  const results = (await proxied.inside(orders, 'proxy')).answers.map(({ result }) => result);
  const ENETUNREACH = -101;
  const ECONNREFUSED = -111;
  assert.deepEqual(results, [3, ENETUNREACH, ENETUNREACH, ECONNREFUSED, 4, ENETUNREACH]);
});
