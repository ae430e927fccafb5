/** No sandbox, no tool: each missing layer is an asserted refusal, and strace sees that nothing was started. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '#kit/log.ts';
import { openJail } from '../../services/tools/jail/jail.ts';
import { seccompFilter } from '../../services/tools/jail/seccomp-filter.ts';
import { STARTER_PATH } from '../../services/tools/jail/starter.ts';
import { findToolchain } from '../../services/tools/jail/toolchain.ts';
import { type HostError, startJail, startWholeJail } from './jail-client.ts';

function straceLog(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'quern-strace-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'log');
}

type Exec = { pid: number; program: string };

/**
 * Programs that were started, in order, without attempts that failed. Where another process had something to tell meanwhile, strace
 * tells of a call in two lines: "1 execve(... <unfinished ...>" and "1 <... execve resumed>) = 0".
 */
function execsIn(log: string): Exec[] {
  const begun = new Map<string, string>();
  const execs: Exec[] = [];
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const [, pid, program = begun.get(pid ?? ''), end] =
      /^(\d+)\s+(?:execve(?:at)?\((?:-?\w+, )?"([^"]*)"|<\.\.\. execve(?:at)? resumed>).*(= 0|<unfinished \.\.\.>)$/.exec(
        line,
      ) ?? [];
    if (pid === undefined || program === undefined) continue;
    if (end === '= 0') execs.push({ pid: Number(pid), program });
    else begun.set(pid, program);
  }
  return execs;
}

const named = (execs: readonly Exec[], name: string): Exec[] => execs.filter(({ program }) => program.endsWith(name));

test('without bubblewrap nothing runs, and nothing is started in its place', async (t) => {
  const log = straceLog(t);
  const jail = await startJail(t, { bwrap: '/nonexistent' }, { strace: log });
  assert.equal(jail.capabilities.tier, null);
  const bubblewrap = jail.capabilities.list.find(({ name }) => name === 'bubblewrap');
  assert.equal(bubblewrap?.available, false);
  assert.match(bubblewrap?.remedy ?? '', /apt-get install bubblewrap/);
  for (const call of [() => jail.bash('echo hi'), () => jail.session(['/usr/bin/cat'])]) {
    await assert.rejects(call, (error: HostError) => {
      assert.match(error.message, /no sandbox, no tool: bubblewrap: there is no bwrap on \/nonexistent/);
      return error.code === 'FAILED_PRECONDITION' && error.reason === 'SANDBOX_UNAVAILABLE';
    });
  }
  await jail.ask({ kind: 'close' });
  const execs = execsIn(log);
  assert.equal(execs.length, 1, JSON.stringify(execs));
  assert.match(execs[0]!.program, /node$/, 'control: strace saw the host itself');
});

test('every program that a command starts was started inside', async (t) => {
  const log = straceLog(t);
  const jail = await startJail(t, {}, { strace: log });
  assert.equal(
    jail.capabilities.tier,
    'A',
    JSON.stringify(jail.capabilities.list.filter(({ available }) => !available)),
  );
  const { stdout } = await jail.bash('/usr/bin/env true; echo fine');
  assert.equal(stdout, 'fine\n');
  await jail.ask({ kind: 'close' });
  const execs = execsIn(log);
  const inside = new Set<number>();
  for (const { pid, program } of execs) {
    if (program === STARTER_PATH) inside.add(pid);
    const isOwn = /(?:\/node|\/bwrap|\/jail-\w+\/probe)$/.test(program);
    const isTool = /^\/usr\/bin\/(?:bash|env|true)$/.test(program) || program === '/opt/probe';
    assert(isOwn || isTool || program === STARTER_PATH, `${program} was started`);
    if (program === '/usr/bin/bash' || program === '/opt/probe') assert(inside.has(pid), `${program} without limits`);
  }
  assert.equal(named(execs, '/bash').length, 1, 'control: the command was seen');
  const launches = named(execs, '/bwrap').map(({ pid }) => pid);
  assert(
    named(execs, STARTER_PATH).every(({ pid }) => !launches.includes(pid)),
    'the starter starts in a child of bubblewrap',
  );
});

const whole = seccompFilter('none');
const broken: [string, Uint8Array][] = [
  ['empty', new Uint8Array()],
  ['cut within a record', whole.subarray(0, whole.length - 3)],
  ['cut after a record', whole.subarray(0, whole.length - 8 * 6)],
  ['garbage', new Uint8Array(whole.length).fill(0xa5)],
];

test('a filter that is absent, cut or damaged: the command is not started', async (t) => {
  const log = straceLog(t);
  const jail = await startJail(t, { bwrap: '/nonexistent' }, { strace: log });
  for (const [name, filter] of broken) {
    const { end, stdout } = await jail.filtered(['/usr/bin/echo', 'started'], filter);
    assert.equal(stdout, '', name);
    assert(end.setupFailure !== null && end.exitCode === null, `${name}: ${JSON.stringify(end)}`);
  }
  const control = await jail.filtered(['/usr/bin/echo', 'started'], whole);
  assert.equal(control.stdout, 'started\n');
  await jail.ask({ kind: 'close' });
  const execs = execsIn(log);
  assert.equal(named(execs, '/bwrap').length, broken.length + 1, 'control: bubblewrap was started each time');
  assert.equal(named(execs, '/echo').length, 1, 'the command only with the whole filter');
  assert.equal(named(execs, STARTER_PATH).length, 1);
});

test('without cgroups nothing runs unless the operator allows it; then the tier says so', async (t) => {
  const strict = await startJail(t, { withoutCgroup: true });
  assert.equal(strict.capabilities.tier, null);
  await assert.rejects(strict.bash('true'), /no sandbox, no tool: cgroup: left out by the test/);
  const lenient = await startJail(t, { withoutCgroup: true, allowMissingCgroup: true });
  assert.equal(lenient.capabilities.tier, 'A-', JSON.stringify(lenient.capabilities.list));
  const { end } = await lenient.python('x = bytearray(200 << 20)', { limits: { memoryBytes: 64 * 1024 ** 2 } });
  assert.equal(end.exitCode, 1, 'per process the memory is limited all the same');
  assert.deepEqual([end.cpuNs, end.maxMemoryBytes], [null, null]);
  const forks = await lenient.bash('for i in $(seq 100); do sleep 5 & done; wait', {
    limits: { pids: 20, wallMs: 3_000 },
  });
  assert.match(forks.stderr, /fork: .*Resource temporarily unavailable/);
  const killed = await lenient.bash('(setsid sleep 60 &); sleep 60', { limits: { wallMs: 300 } });
  assert.equal(killed.end.killed, 'wall');
});

test('the tier is taken away when a later test fails, and nothing runs from then on', async (t) => {
  const jail = await startWholeJail(t);
  assert.equal((await jail.bash('echo fine')).stdout, 'fine\n');
  await jail.ask({ kind: 'spoil' });
  const after = await jail.ask<typeof jail.capabilities>({ kind: 'probe' });
  assert.equal(after.tier, null);
  assert.equal(after.list.find(({ name }) => name === 'launch')?.available, false);
  await assert.rejects(jail.bash('echo fine'), /no sandbox, no tool: launch:/);
  // What failed is tested again after seconds, not after minutes.
  await jail.ask({ kind: 'mend' });
  const since = performance.now();
  let now = after;
  while (now.tier === null && performance.now() - since < 60_000) {
    await sleep(200);
    now = await jail.ask({ kind: 'capabilities' });
  }
  assert.equal(now.tier, 'A');
});

test('a caller that leaves during a test takes no tool from anybody', async (t) => {
  const jail = await startWholeJail(t);
  assert.deepEqual(await jail.ask({ kind: 'leave' }), { left: 'TimeoutError', tier: 'A' });
  assert.equal((await jail.bash('echo fine')).stdout, 'fine\n');
});

test('root opens no jail', async () => {
  const options = {
    log: createLog({ service: 'test', level: 'silent' }),
    stateDir: join(tmpdir(), 'quern-never-made'),
    bwrap: '/usr/bin',
    cgroups: { ok: false, detail: 'none', remedy: 'none' } as const,
    allowMissingCgroup: true,
    toolchain: findToolchain(),
    proxySocket: null,
  };
  const getuid = process.getuid!;
  process.getuid = () => 0;
  try {
    await assert.rejects(openJail(options, { signal: new AbortController().signal }), /this process is root/);
  } finally {
    process.getuid = getuid;
  }
});
