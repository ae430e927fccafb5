/** The launcher: right Node, arguments, exit codes, signals, and no orphan when it is killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { on, once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const repository = resolve(import.meta.dirname, '../../..');

/** Makes the launcher believe that it runs on Node 20. It is not inherited by what the launcher starts. */
const override = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.0' } })";
const asNode20 = `data:text/javascript;base64,${Buffer.from(override).toString('base64')}`;

/** A checkout that holds the launcher, the fixture as main.ts and, unless told otherwise, the installed packages. */
function makeCheckout(t: TestContext, { packages = true } = {}): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-launcher-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(join(dir, 'services/cli'), { recursive: true });
  cpSync(join(repository, 'package.json'), join(dir, 'package.json'));
  cpSync(join(repository, 'services/cli/bin.mjs'), join(dir, 'services/cli/bin.mjs'));
  cpSync(join(import.meta.dirname, 'fixtures/main.ts'), join(dir, 'services/cli/main.ts'));
  if (packages) symlinkSync(join(repository, 'node_modules'), join(dir, 'node_modules'));
  return dir;
}

function start(t: TestContext, checkout: string, args: string[], { old = false } = {}): ChildProcess {
  const imports = old ? ['--import', asNode20] : [];
  const child = spawn(process.execPath, [...imports, join(checkout, 'services/cli/bin.mjs'), ...args]);
  t.after(() => child.kill('SIGKILL'));
  return child;
}

async function finish(child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk) => (text.stdout += chunk));
  child.stderr?.on('data', (chunk) => (text.stderr += chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

async function firstLine(child: ChildProcess): Promise<string> {
  assert(child.stdout);
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
  return chunk.toString().trim();
}

/** False also for a zombie: where nothing reaps orphans, a process that has ended keeps its pid. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

for (const old of [false, true]) {
  const where = old ? 'from Node 20' : 'from Node 24';

  test(`${where}: main.ts gets the arguments on Node 24`, async (t) => {
    const checkout = makeCheckout(t);
    const { code, stdout } = await finish(start(t, checkout, ['show', 'a b', '--flag'], { old }));
    assert.equal(code, 0);
    const seen = JSON.parse(stdout);
    assert.deepEqual(seen.rest, ['a b', '--flag']);
    assert.equal(seen.main, join(checkout, 'services/cli/main.ts'));
    assert.match(seen.node, /^24\./);
  });

  test(`${where}: the exit code is main.ts's`, async (t) => {
    const { code } = await finish(start(t, makeCheckout(t), ['exit', '42'], { old }));
    assert.equal(code, 42);
  });

  test(`${where}: SIGTERM reaches main.ts, which decides the exit code`, async (t) => {
    const child = start(t, makeCheckout(t), ['wait'], { old });
    await firstLine(child);
    const finished = finish(child);
    child.kill('SIGTERM');
    assert.equal((await finished).code, 7);
  });
}

test('a crash of main.ts is 128 + signal, as a shell shows it', async (t) => {
  const { code } = await finish(start(t, makeCheckout(t), ['abort'], { old: true }));
  assert.equal(code, 128 + 6);
});

test('from Node 20: SIGINT is passed on when there is no terminal', async (t) => {
  const child = start(t, makeCheckout(t), ['wait'], { old: true });
  await firstLine(child);
  const finished = finish(child);
  child.kill('SIGINT');
  assert.equal((await finished).code, 128 + 2);
});

test('one Ctrl-C in a terminal is one SIGINT', async (t) => {
  const inner = `${process.execPath} --import '${asNode20}' ${join(makeCheckout(t), 'services/cli/bin.mjs')} count`;
  const child = spawn('script', ['-qec', inner, '/dev/null']); // gives it a terminal of its own
  t.after(() => child.kill('SIGKILL'));
  const finished = finish(child);
  for await (const [chunk] of on(child.stdout, 'data')) if (String(chunk).includes('counting')) break;
  child.stdin.write('\x03');
  assert.match((await finished).stdout, /got 1 SIGINT/);
});

test('kill -9 of the launcher leaves no orphan', async (t) => {
  const launcher = start(t, makeCheckout(t), ['wait'], { old: true });
  const pid = Number(await firstLine(launcher));
  t.after(() => isAlive(pid) && process.kill(pid, 'SIGKILL'));
  assert.notEqual(pid, launcher.pid);
  launcher.kill('SIGKILL');
  for (let waited = 0; isAlive(pid) && waited < 100; waited++) await sleep(50);
  assert.equal(isAlive(pid), false);
});

test('without Node 24 it says what to do', async (t) => {
  const { code, stderr } = await finish(start(t, makeCheckout(t, { packages: false }), ['show'], { old: true }));
  assert.equal(code, 1);
  assert.match(stderr, /needs Node >= 24\.12; this is .* node-linux-\w+ is not installed\. Run `npm ci`/);
});
