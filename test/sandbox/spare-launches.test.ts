/** Launches made ahead: they hold nothing and run nothing of their own, serve one command each, and end with the service. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from '../../services/tools/jail/cgroups.ts';
import { BWRAP_ARGUMENTS } from '../../services/tools/jail/launch.ts';
import { childrenOf, signalProcess, startTimeOf } from '../../services/tools/jail/process-status.ts';
import { launchMark } from '../../services/tools/jail/stale-launches.ts';
import { type Census, type JailClient, runGroups, startJail } from './jail-client.ts';
import { alive, descendants, type Process, untilNoOrphans } from './processes.ts';

const SPARES = 2;
const WAIT_MS = 20_000;

async function startWithSpares(t: TestContext): Promise<JailClient> {
  const jail = await startJail(t, { spareLaunches: SPARES });
  assert.equal(jail.capabilities.tier, 'A', JSON.stringify(jail.capabilities.list));
  return jail;
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + WAIT_MS; !(await holds()); await sleep(5)) {
    assert(performance.now() < end, what);
  }
}

/** A group is a folder in each hierarchy. */
const groups = (jail: JailClient): string[] => [...new Set(runGroups(jail.host.pid!))].sort();

const groupOf = (pid: number): string => /\/(run-\d+)$/m.exec(readText(`/proc/${pid}/cgroup`) ?? '')?.[1] ?? 'none';

/** The spares of a host whose commands have all ended: one process each, in a group of its own. */
async function rest(jail: JailClient, count: number): Promise<Process[]> {
  await until(`${count} launches wait, and nothing else is there`, () => {
    const held = descendants(jail.host.pid!).map(({ pid }) => groupOf(pid));
    return held.length === count && held.sort().join() === groups(jail).join();
  });
  return descendants(jail.host.pid!);
}

test('a spare is bubblewrap before it has made anything, in a group of its own; the next command gets one', async (t) => {
  const jail = await startWithSpares(t);
  await jail.bash('true');
  const spares = await rest(jail, SPARES);
  for (const { pid } of spares) {
    const [name, ...given] = (readText(`/proc/${pid}/cmdline`) ?? '').split('\0');
    assert.equal(name, launchMark(jail.host.pid!, startTimeOf(jail.host.pid!)!), 'whose it is');
    assert.equal(given.slice(0, -1).join(' '), BWRAP_ARGUMENTS.join(' '));
    assert.equal(readText(`/proc/${pid}/environ`), '');
    assert.equal(readText(`/proc/${pid}/uid_map`), readText('/proc/self/uid_map'), 'no namespace yet');
  }
  const before = await jail.ask<Census>({ kind: 'census' });
  const { end } = await jail.bash('echo $$');
  assert.equal(end.exitCode, 0);
  const after = await rest(jail, SPARES);
  assert.equal(after.filter(({ pid }) => spares.some((spare) => spare.pid === pid)).length, SPARES - 1, 'one was used');
  await until('descriptors as before', async () => (await jail.ask<Census>({ kind: 'census' })).fds === before.fds);
  await jail.ask({ kind: 'close' });
  assert.equal(alive(after), 0);
  assert.deepEqual(groups(jail), []);
});

test('the limits of a command hold in a spare as in any launch, one after the other and at once', async (t) => {
  const jail = await startWithSpares(t);
  const MIB = 1024 ** 2;
  for (const count of [1, SPARES, 3 * SPARES]) {
    const runs = Array.from({ length: count }, (_, index) => {
      const limits = { pids: 10 + index, memoryBytes: (64 + index) * MIB, openFiles: 32 + index };
      const input = index % 2 === 0 ? { stdin: Buffer.from('given') } : {};
      return jail.bash('ulimit -n; ulimit -u; head -c 5', { limits, ...input });
    });
    (await Promise.all(runs)).forEach(({ end, stdout }, index) => {
      assert.equal(end.exitCode, 0, JSON.stringify(end));
      assert.equal(stdout, `${32 + index}\n${11 + index}\n${index % 2 === 0 ? 'given' : ''}`);
    });
    const greedy = await jail.python('x = bytearray(200 << 20)', { limits: { memoryBytes: 64 * MIB } });
    assert.equal(greedy.end.killed, 'memory', JSON.stringify(greedy.end));
  }
});

test('spares that somebody kills are replaced, and nobody notices', async (t) => {
  const jail = await startWithSpares(t);
  await jail.bash('true');
  const spares = await rest(jail, SPARES);
  const theirs = groups(jail);
  for (const { pid } of spares) process.kill(pid, 'SIGKILL');
  await until('they are gone', () => alive(spares) === 0 && !groups(jail).some((group) => theirs.includes(group)));
  assert.equal((await jail.bash('echo fine')).stdout, 'fine\n');
  await rest(jail, SPARES);
});

test('a spare that was killed and is not yet known to be dead fails no call, which runs once', async (t) => {
  const jail = await startWithSpares(t);
  const path = await jail.ask<string>({ kind: 'workspace' });
  const workspace = { path, writable: true, protected: ['.npmrc'] };
  const pids = (list: readonly Process[]): number[] => list.map(({ pid }) => pid);
  await jail.bash('true; echo x > .npmrc', { workspace });
  for (let i = 0; i < 4; i++) {
    const killsFirst = pids(await rest(jail, SPARES));
    const { end, stdout } = await jail.bash('echo ran >> log; cat log | wc -l', { workspace }, { killsFirst });
    assert.equal(end.exitCode, 0, JSON.stringify(end));
    assert.equal(stdout, `${i + 1}\n`);
  }
  await jail.bash('true', { stdin: Buffer.from('x') }); // a kind of its own
  for (let i = 0; i < 4; i++) {
    const killsFirst = pids(await rest(jail, 2 * SPARES));
    const { end, stdout } = await jail.bash('cat', { stdin: Buffer.from('given') }, { killsFirst });
    assert.equal(end.exitCode, 0, JSON.stringify(end));
    assert.equal(stdout, 'given');
  }
  await rest(jail, 2 * SPARES); // of those that were killed nothing is left
});

test('spares killed at random, one of them in use: a call runs, or was ended while it ran, and nothing else', async (t) => {
  const jail = await startWithSpares(t);
  await jail.bash('true');
  const outcomes = { ran: 0, ended: 0 };
  for (let i = 0; i < 40; i++) {
    const spares = await rest(jail, SPARES);
    const call = jail.bash('echo ran');
    await sleep(Math.random() * 15);
    // Without a child it has made nothing yet. It may have one by the time of the kill, and the command may run.
    for (const { pid } of spares) if (childrenOf(pid).length === 0) signalProcess(pid, 'SIGKILL');
    const { end, stdout } = await call;
    assert.equal(end.setupFailure, null, JSON.stringify(end));
    if (end.exitCode === 0) assert.equal(stdout, 'ran\n');
    else assert(end.signal === 'SIGKILL' && end.runNs > 0, JSON.stringify(end));
    outcomes[end.exitCode === 0 ? 'ran' : 'ended']++;
  }
  t.diagnostic(JSON.stringify(outcomes));
});

test('SIGKILL of the service: its spares end by themselves, having made nothing', async (t) => {
  const jail = await startWithSpares(t);
  await jail.bash('true');
  const spares = await rest(jail, SPARES);
  jail.host.kill('SIGKILL');
  await once(jail.host, 'exit');
  await until('they are gone', () => alive(spares) === 0);
  await untilNoOrphans();
  await startWithSpares(t);
  assert.deepEqual(groups(jail), [], 'swept');
});

const MARK = 'sleep 86399.25';

/** Commands that run, by what they are called; bubblewrap and the starter never carry a command's name. */
const marked = (): number[] =>
  readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && (readText(`/proc/${entry}/cmdline`) ?? '').includes(MARK))
    .map(Number)
    .filter((pid) => /\/run-/.test(readText(`/proc/${pid}/cgroup`) ?? ''));

test('SIGKILL of the service at any moment, spares in use and in the making: no command is left', async (t) => {
  for (let round = 0; round < 6; round++) {
    const jail = await startWithSpares(t);
    if (round % 3 > 0) await jail.bash('true');
    if (round % 3 > 1) await rest(jail, SPARES);
    for (let i = 0; i < 6; i++) jail.session([jail.interpreters.bash!, '-c', `${MARK}; true`]).catch(() => {});
    await sleep(7 * round + Math.random() * 4);
    jail.host.kill('SIGKILL');
    await once(jail.host, 'exit');
    await until(`commands are gone, killed in round ${round}`, () => marked().length === 0);
  }
  await startWithSpares(t);
  await untilNoOrphans();
});

test('options that were cut short are refused before anything is made', async () => {
  for (const options of ['', '--unshare-all\0--ro-bind\0/usr\0/usr\0', '--unshare-all\0--disable-userns\0']) {
    const child = spawn('/usr/bin/bwrap', [...BWRAP_ARGUMENTS], { stdio: Array(7).fill('pipe'), env: {} });
    const streams = child.stdio as unknown as Duplex[];
    for (const stream of streams) stream.on('error', () => {});
    let said = '';
    let status = '';
    streams[2]!.on('data', (data) => {
      said += data;
    });
    streams[5]!.on('data', (data) => {
      status += data;
    });
    for (const stream of streams) stream.resume();
    streams[4]!.end(options);
    await once(child, 'close');
    assert.equal(child.exitCode, 1);
    assert.match(said, /--disable-userns requires --unshare-user/);
    assert.equal(status, '', 'it had no child');
  }
});
