/** What a started program must be, whichever way it was started. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from '../../../../services/tools/jail/cgroups.ts';
import { childrenOf, startTimeOf } from '../../../../services/tools/jail/process-status.ts';
import {
  loadNativeStart,
  nativeStart,
  type Program,
  type ProgramOrder,
  type Start,
  startByNode,
} from '../../../../services/tools/jail/program.ts';

const native = nativeStart();
const startNatively: Start = (order) => {
  assert.ok(native.ok, native.ok ? '' : native.detail);
  return native.start(order);
};
/** Whoever started this process may have left it descriptors that Node hands on; the jail closes them when it opens. */
const strays = (): string[] =>
  readdirSync('/proc/self/fdinfo').filter((fd) => {
    const flags = /^flags:\s*([0-7]+)/m.exec(readText(`/proc/self/fdinfo/${fd}`) ?? '')?.[1];
    return Number(fd) > 2 && flags !== undefined && (Number.parseInt(flags, 8) & 0o2000000) === 0;
  });
const ways: readonly [name: string, start: Start][] = [
  ['the addon', startNatively],
  ['Node', startByNode],
];

const SHELL: ProgramOrder = { path: '/bin/sh', argv: ['sh'], descriptors: 7, takesInput: true };
const shell = (script: string, more: Partial<ProgramOrder> = {}): ProgramOrder => ({
  ...SHELL,
  argv: ['sh', '-c', script],
  ...more,
});

/** As the callers do: a peer that goes is no error. */
function begin(t: TestContext, start: Start, order: ProgramOrder): Program {
  const program = start(order);
  for (const stream of program.stdio) stream?.on('error', () => {});
  t.after(async () => {
    program.kill('SIGKILL');
    await program.exited;
    leave(program);
  });
  return program;
}

function leave({ stdio }: Program): void {
  for (const stream of stdio) stream?.destroy();
}

/** The numbers of the descriptors of a process. */
const descriptorsOf = (pid: number | 'self'): string[] => readdirSync(`/proc/${pid}/fd`);

/**
 * Until a program has these descriptors and no others but what the way that started it may hand on. Not at once: it opens and closes
 * its libraries first, and to the kernel it runs a moment before its name can be read.
 */
async function untilOnly(expected: readonly string[], { pid }: Program, start: Start): Promise<void> {
  const others = start === startByNode ? strays() : [];
  const given = (): string[] => descriptorsOf(pid).filter((fd) => !others.includes(fd));
  await until(`descriptors ${expected}`, () => given().sort().join() === expected.join());
}

/** The sockets and pidfds of this process, and its children that wait to be reaped. */
function held(): string[] {
  const links = descriptorsOf('self').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the one by which the folder is read
    }
  });
  const zombies = childrenOf(process.pid).filter((pid) => startTimeOf(pid) === null);
  return [...links.filter((link) => /^socket:|pidfd/.test(link)), ...zombies.map((pid) => `zombie ${pid}`)];
}

/** What closes late of an earlier test is in `before`, and may go. All pidfds of old kernels look alike: those are counted. */
async function untilNoMoreThan(before: readonly string[]): Promise<void> {
  const pidfds = (all: readonly string[]): number => all.filter((link) => link.includes('pidfd')).length;
  await until('nothing is left of the programs', () => {
    const now = held();
    return now.every((link) => before.includes(link) || link.includes('pidfd')) && pidfds(now) <= pidfds(before);
  });
}

async function until(what: string, isTrue: () => boolean): Promise<void> {
  for (let i = 0; !isTrue(); i++) {
    assert.ok(i < 20_000, `${what}: not within 100 s`);
    await sleep(5);
  }
}

const field = (pid: number, name: string): string =>
  new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';

for (const [name, start] of ways) {
  test(`${name}: the end of a program is told by its code or its signal`, async (t) => {
    assert.deepEqual(await begin(t, start, shell('exit 7')).exited, { code: 7, signal: null });
    assert.deepEqual(await begin(t, start, shell('exit 0', { takesInput: false })).exited, { code: 0, signal: null });
    assert.deepEqual(await begin(t, start, shell('kill -SEGV $$')).exited, { code: null, signal: 'SIGSEGV' });
    assert.deepEqual(await begin(t, start, shell('kill -ABRT $$')).exited, { code: null, signal: 'SIGABRT' });
    const waits = begin(t, start, shell('exec cat'));
    assert.equal(waits.kill('SIGTERM'), true);
    assert.deepEqual(await waits.exited, { code: null, signal: 'SIGTERM' });
  });

  test(`${name}: a program that is not there is an error, and leaves no descriptor`, () => {
    const before = held();
    const path = '/usr/bin/no-such-program';
    for (const takesInput of [true, false]) {
      assert.throws(
        () => start({ ...SHELL, path, takesInput }),
        /^Error: \/usr\/bin\/no-such-program cannot be started/,
      );
    }
    assert.throws(() => start({ ...SHELL, path: '/etc/passwd' }), /cannot be started/);
    return untilNoMoreThan(before);
  });

  test(`${name}: every descriptor goes both ways but the first`, async (t) => {
    const echo = 'for n in 3 4 5 6; do eval "read line <&$n; echo $n \\$line >&$n"; done';
    const program = begin(t, start, shell(`${echo}; read line; echo out $line; echo err $line >&2`));
    for (const [at, stream] of program.stdio.entries()) if (at === 0 || at > 2) stream!.write(`word ${at}\n`);
    const said = await Promise.all(program.stdio.slice(1).map((stream) => text(stream!)));
    assert.deepEqual(said, ['out word 0\n', 'err word 0\n', '3 word 3\n', '4 word 4\n', '5 word 5\n', '6 word 6\n']);
    assert.deepEqual(await program.exited, { code: 0, signal: null });
    assert.equal(program.stdio[0]!.destroyed, true);
  });

  test(`${name}: own session, the folder /, no environment, the name it was given, no signal blocked or ignored`, async (t) => {
    const mark = 'quern-test.1.2.3';
    const program = begin(t, start, { path: '/bin/cat', argv: [mark, '-'], descriptors: 3, takesInput: true });
    const { pid } = program;
    await until('it has its name', () => readText(`/proc/${pid}/cmdline`) === `${mark}\0-\0`);
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    assert.equal(Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3]), pid, 'session');
    assert.equal(readFileSync(`/proc/${pid}/environ`, 'latin1'), '');
    assert.equal(readlinkSync(`/proc/${pid}/cwd`), '/');
    for (const set of ['SigBlk', 'SigIgn', 'SigCgt']) assert.match(field(pid, set), /^0+$/, set);
    await untilOnly(['0', '1', '2'], program, start);
    program.stdio[0]!.end('one line\n');
    assert.equal(await text(program.stdio[1]!), 'one line\n');
  });

  test(`${name}: without input the first descriptor is /dev/null`, async (t) => {
    const program = begin(t, start, { path: '/bin/sleep', argv: ['sleep', '1000'], descriptors: 4, takesInput: false });
    assert.equal(program.stdio[0], null);
    assert.equal(readlinkSync(`/proc/${program.pid}/fd/0`), '/dev/null');
    assert.match(readlinkSync(`/proc/${program.pid}/fd/3`), /^socket:/);
    await untilOnly(['0', '1', '2', '3'], program, start);
    assert.equal(program.kill('SIGKILL'), true);
    assert.deepEqual(await program.exited, { code: null, signal: 'SIGKILL' });
  });

  test(`${name}: of fifty at once none has a descriptor of another, and none is left here`, async (t) => {
    const before = held();
    const programs = Array.from({ length: 50 }, () => begin(t, start, { ...SHELL, path: '/bin/cat', argv: ['cat'] }));
    const fds = ['0', '1', '2', '3', '4', '5', '6'];
    for (const program of programs) await untilOnly(fds, program, start);
    const inodes = programs.flatMap(({ pid }) => fds.map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`)));
    assert.equal(new Set(inodes).size, 350, 'each socket is one program’s');
    for (const { stdio } of programs) stdio[0]!.end();
    for (const { exited } of programs) assert.deepEqual(await exited, { code: 0, signal: null });
    for (const program of programs) leave(program);
    await untilNoMoreThan(before);
  });

  test(`${name}: two hundred in a row leave no zombie, and a kill after the end does nothing`, async (t) => {
    const before = held();
    for (let i = 0; i < 200; i++) {
      const program = begin(t, start, { path: '/bin/true', argv: ['true'], descriptors: 7, takesInput: i % 2 === 0 });
      assert.deepEqual(await program.exited, { code: 0, signal: null });
      assert.ok(!childrenOf(process.pid).includes(program.pid), 'it is reaped before its end is told');
      assert.equal(program.kill('SIGKILL'), false);
      leave(program);
    }
    await untilNoMoreThan(before);
  });
}

const PROGRAM = join(import.meta.dirname, '../../../../services/tools/jail/program.ts');

/** What this script does in a process of its own, with `start` of the addon. */
async function outcome(
  t: TestContext,
  script: string,
): Promise<{ code: number | null; signal: string | null; out: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'quern-program-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const head = `import { nativeStart } from ${JSON.stringify(PROGRAM)};\nconst { start } = nativeStart();\n`;
  const file = join(folder, 'script.mjs');
  writeFileSync(file, head + script);
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  const [out, err] = [text(child.stdout), text(child.stderr)];
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  return { code, signal, out: (await out) + (await err) };
}

const CAT = `start({ path: '/bin/cat', argv: ['cat'], descriptors: 3, takesInput: true })`;

test('a process that leaves while its programs run ends cleanly, and they see their input closed', async (t) => {
  const { out, ...end } = await outcome(
    t,
    `const { pid } = ${CAT};\nprocess.stdout.write(String(pid), () => process.exit(5));`,
  );
  assert.deepEqual(end, { code: 5, signal: null }, out);
  await until('the program has ended', () => startTimeOf(Number(out)) === null);
});

test('a thread that is ended while its programs run takes nothing with it', async (t) => {
  const { out, ...end } = await outcome(
    t,
    `import { Worker, isMainThread, parentPort } from 'node:worker_threads';
if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url));
  worker.on('message', async (pid) => {
    await worker.terminate();
    process.stdout.write(String(pid));
  });
} else {
  const programs = Array.from({ length: 3 }, () => ${CAT});
  parentPort.postMessage(programs[0].pid);
}`,
  );
  assert.deepEqual(end, { code: 0, signal: null }, out);
  await until('the program has ended', () => startTimeOf(Number(out)) === null);
});

test('an exception of whoever hears of an end is the process’s uncaught exception', async (t) => {
  const { code, out } = await outcome(
    t,
    `process.on('uncaughtException', (error) => process.stdout.write('caught ' + error.message));
const { stdio, exited } = start({ path: '/bin/true', argv: ['true'], descriptors: 3, takesInput: true });
stdio[0].destroy = () => { throw new Error('by the test'); };`,
  );
  assert.equal(code, 0, out);
  assert.match(out, /caught by the test/);
});

test('where there is no addon, or it does not load, the reason is said', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'quern-program-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'spawn_addon.node');
  const missing = loadNativeStart(path);
  assert.match(missing.ok ? '' : missing.detail, /Cannot find module .*spawn_addon\.node/);
  writeFileSync(path, 'no library');
  const broken = loadNativeStart(path);
  assert.match(broken.ok ? '' : broken.detail, /spawn_addon\.node: /);
});

test('the addon refuses what it does not understand', () => {
  for (const wrong of [
    { argv: ['a\0b'] as const },
    { argv: [] as unknown as readonly [string] },
    { descriptors: 2 },
    { descriptors: 17 },
    { path: 5 as unknown as string },
  ]) {
    assert.throws(() => startNatively({ ...SHELL, ...wrong }), /cannot be started/);
  }
});
