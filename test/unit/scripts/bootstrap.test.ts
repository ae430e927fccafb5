/** Set-up in a scratch checkout with stand-ins for npm, g++, CMake and Ninja: when it acts, and what it says. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const repository = resolve(import.meta.dirname, '../../..');

/** What the stand-ins do, as shell; each also logs its name and arguments. */
const standIns: Record<string, string> = {
  'g++': 'echo 12.2.0',
  cmake: 'echo cmake version 3.25.1',
  ninja: `case "$1" in
    --version) echo 1.11.1 ;;
    *) touch "$2/engine_tests"; chmod +x "$2/engine_tests" ;;
  esac`,
  npm: 'echo "PATH=$PATH" >> "$STAND_IN_LOG"',
};

type Ran = { status: number | null; output: string };
type Checkout = {
  dir: string;
  env: NodeJS.ProcessEnv;
  write(name: string, text: string): void;
  /** What the stand-ins were called with, a line per call. */
  log(): string[];
  run(...args: string[]): Ran;
  start(...args: string[]): Promise<Ran>;
};

function makeCheckout(t: TestContext, changed: Record<string, string> = {}): Checkout {
  const dir = mkdtempSync(join(tmpdir(), 'quern-bootstrap-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  cpSync(join(repository, 'scripts'), join(dir, 'scripts'), { recursive: true });
  for (const name of ['package.json', 'package-lock.json']) cpSync(join(repository, name), join(dir, name));
  const write = (name: string, text: string): void => {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text, { mode: 0o755 });
  };
  for (const [name, shell] of Object.entries({ ...standIns, ...changed })) {
    write(`bin/${name}`, `#!/bin/sh\necho "${name} $*" >> "$STAND_IN_LOG"\n${shell}\n`);
  }
  mkdirSync(join(dir, 'engine-native/build'), { recursive: true });
  write('engine-native/CMakeLists.txt', '# stand-in\n');
  write('engine-native/src/a.cc', 'int a;\n');
  const logPath = join(dir, 'log');
  const log = (): string[] => (existsSync(logPath) ? readFileSync(logPath, 'utf8').trim().split('\n') : []);
  const { QUERN_CACHE_DIR: _, CXX: __, ...inherited } = process.env;
  const own = `${dir}/node_modules/.bin`; // as npm scripts put it first
  const env = { ...inherited, STAND_IN_LOG: logPath, PATH: `${own}:${dir}/bin:${process.env.PATH}` };
  const run = (...args: string[]): Ran => {
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: dir, env, encoding: 'utf8' });
    return { status, output: stdout + stderr };
  };
  const start = async (...args: string[]): Promise<Ran> => {
    const child = spawn(process.execPath, args, { cwd: dir, env, stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    const [status] = (await once(child, 'close')) as [number | null];
    return { status, output };
  };
  return { dir, env, write, log, run, start };
}

const build = ['scripts/build-native.mjs', 'engine_tests'];
const builds = (checkout: Checkout): number => checkout.log().filter((line) => /^ninja .*-j\d/.test(line)).length;

test('the native build runs once, and again only for changed contents or a missing result', (t) => {
  const checkout = makeCheckout(t);
  const first = checkout.run(...build);
  assert.equal(first.status, 0, first.output);
  assert.match(first.output, /native engine: built in \d/);
  assert.equal(builds(checkout), 1);

  assert.equal(checkout.run(...build).output, '');
  checkout.write('engine-native/src/a.cc', 'int a;\n'); // newer, but the same
  assert.equal(checkout.run(...build).output, '');
  assert.equal(builds(checkout), 1);

  checkout.write('engine-native/src/a.cc', 'int b;\n');
  checkout.run(...build);
  assert.equal(builds(checkout), 2);
  checkout.write('test/native/a_test.cc', 'int test;\n');
  checkout.run(...build);
  assert.equal(builds(checkout), 3);
  rmSync(join(checkout.dir, 'engine-native/build/engine_tests'));
  checkout.run(...build);
  assert.equal(builds(checkout), 4);
});

test('a failing build shows the compiler’s words, fails, and is tried again', (t) => {
  const ninja = standIns.ninja!.replace(/touch .* ;;/, 'echo "a.cc:1: error: no"; exit 1 ;;');
  const checkout = makeCheckout(t, { ninja });
  for (const attempt of [1, 2]) {
    const { status, output } = checkout.run(...build);
    assert.equal(status, 1);
    assert.match(output, /a\.cc:1: error: no/);
    assert.equal(builds(checkout), attempt);
  }
});

test('an old compiler or none is said in a sentence with what to install', (t) => {
  const old = makeCheckout(t, { 'g++': 'echo 11.4.0' }).run(...build);
  assert.equal(old.status, 1);
  assert.match(
    old.output,
    /needs g\+\+ >= 12; this one is 11\.4\.0\. On Debian and Ubuntu: .*apt-get install -y g\+\+-12/,
  );
  const none = makeCheckout(t, { 'g++': 'exit 127' }).run(...build);
  assert.match(none.output, /needs g\+\+ >= 12; `g\+\+` does not run/);
});

test('SIGINT asks Ninja to end, which ends its compilers, and says that it stops', async (t) => {
  // As Ninja does it: the compiler has a process group of its own, and ends with Ninja only when Ninja is told.
  const compiler = `setsid sh -c 'echo "compiler $$" >> "$STAND_IN_LOG"; exec sleep 600' & job=$!; echo begun >> "$STAND_IN_LOG"`;
  const ninja = `case "$1" in
    --version) echo 1.11.1 ;;
    *) trap 'kill $job; wait $job; echo ended >> "$STAND_IN_LOG"; exit 2' TERM; ${compiler}; wait $job ;;
  esac`;
  const checkout = makeCheckout(t, { ninja });
  const child = spawn(process.execPath, build, {
    cwd: checkout.dir,
    env: checkout.env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const closed = once(child, 'close');
  const pid = (): number => Number(checkout.log().flatMap((line) => /^compiler (\d+)$/.exec(line)?.[1] ?? [])[0] ?? 0);
  while (pid() === 0 || !checkout.log().includes('begun')) await sleep(20);
  child.kill('SIGINT');
  assert.deepEqual(await closed, [130, null]);
  assert.match(said, /^\nSIGINT: stopping; what is done is kept, and the next call goes on from there\n/);
  assert.equal(checkout.log().at(-1), 'ended');
  assert.throws(() => process.kill(pid(), 0), { code: 'ESRCH' });
});

test('of two builds at once the second waits, and then has nothing to do', async (t) => {
  const ninja = standIns.ninja!.replace('*) touch', '*) sleep 1; touch');
  const checkout = makeCheckout(t, { ninja });
  const [first, second] = await Promise.all([checkout.start(...build), checkout.start(...build)]);
  assert.equal(builds(checkout), 1);
  assert.match(first.output + second.output, /waiting for process \d+, which does the same here/);
  assert.deepEqual([first.status, second.status], [0, 0]);
});

test('a lock whose owner died is taken over', (t) => {
  const checkout = makeCheckout(t);
  const lock = '.cache/locks/native release.lock';
  for (const owner of ['999999999 1', `${process.pid} 1`]) {
    rmSync(join(checkout.dir, 'engine-native/build'), { recursive: true });
    mkdirSync(join(checkout.dir, 'engine-native/build'));
    checkout.write(lock, owner);
    const { status, output } = checkout.run(...build);
    assert.equal(status, 0, output);
    assert.doesNotMatch(output, /waiting/);
    assert(!existsSync(join(checkout.dir, lock)));
  }
});

test('npm ci runs on the system’s PATH, and packages that it left out are found missing', (t) => {
  const checkout = makeCheckout(t);
  const { status, output } = checkout.run('scripts/bootstrap.mjs', 'start');
  assert.equal(status, 1);
  assert.match(output, /npm ci ended well, but node_modules is not there\. npm leaves optional packages out silently/);
  assert.match(checkout.log()[0] ?? '', /^npm ci --ignore-scripts/);
  assert(!checkout.log().some((line) => line.startsWith('PATH=') && line.includes('node_modules')));
});

test('an optional package of this platform that is missing or of another version counts as missing', (t) => {
  const packages = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')).packages;
  const node24 = `node_modules/node-linux-${process.arch}`;
  for (const [version, expected] of Object.entries({ '24.0.0': 'is 24.0.0, not', '': 'is missing, not' })) {
    const checkout = makeCheckout(t);
    const installed = { ...packages, [node24]: version ? { version } : undefined };
    for (const path of Object.keys(packages)) if (path) checkout.write(`${path}/package.json`, '{}');
    checkout.write('node_modules/.package-lock.json', JSON.stringify({ packages: installed }));
    const { status, output } = checkout.run('scripts/bootstrap.mjs', 'start');
    assert.equal(status, 1);
    assert(output.includes(`${node24} ${expected} ${packages[node24].version}`), output);
  }
});

test('anything but start or test is a usage error', (t) => {
  const { status, output } = makeCheckout(t).run('scripts/bootstrap.mjs', 'begin');
  assert.equal(status, 1);
  assert.match(output, /usage: node scripts\/bootstrap\.mjs start\|test; got "begin"/);
});
