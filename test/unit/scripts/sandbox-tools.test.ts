/** Installing bubblewrap and strace, with a stand-in for apt-get. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';

const module = resolve(import.meta.dirname, '../../../scripts/setup/sandbox-tools.mjs');

type Ran = { status: number | null; output: string; calls: string[] };

/** Runs one of the module's functions where PATH has only `programs`; `uid` is what the process believes to be. */
function install(t: TestContext, name: string, programs: Record<string, string>, uid = 0): Ran {
  const dir = mkdtempSync(join(tmpdir(), 'quern-tools-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const bin = join(dir, 'bin');
  mkdirSync(bin);
  for (const [program, shell] of Object.entries(programs)) {
    writeFileSync(join(bin, program), `#!/bin/sh\n/bin/echo "${program} $*" >> ${dir}/log\n${shell}\n`, {
      mode: 0o755,
    });
  }
  const script = `process.getuid = () => ${uid}; const m = await import(${JSON.stringify(module)});
    await m.${name}().catch((error) => { console.log(error.message); process.exitCode = 1; });`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: bin, BIN: bin, QUERN_CACHE_DIR: join(dir, 'cache') },
    encoding: 'utf8',
  });
  const log = join(dir, 'log');
  const calls = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [];
  return { status, output: stdout + stderr, calls };
}

/** Puts the programs there, once the package lists were read where `updateFirst`. */
const aptGet = (updateFirst: boolean): string => `
  case "$1" in
    update) : > $BIN/updated ;;
    install) ${updateFirst ? '[ -e $BIN/updated ] || exit 100' : ':'}
      for name in bwrap strace; do /bin/cp /bin/true $BIN/$name; done ;;
  esac`;

test('what is there is left alone', (t) => {
  const { status, output, calls } = install(t, 'installSandboxTools', { bwrap: '', strace: '', 'apt-get': 'exit 1' });
  assert.deepEqual([status, output, calls], [0, '', []]);
});

test('what is missing is installed, package lists read only if it must be', (t) => {
  const fresh = install(t, 'installSandboxTools', { 'apt-get': aptGet(false) });
  assert.equal(fresh.status, 0, fresh.output);
  assert.deepEqual(fresh.calls, ['apt-get install -y --no-install-recommends bubblewrap strace']);
  const stale = install(t, 'installSandboxTools', { strace: '', 'apt-get': aptGet(true) });
  assert.equal(stale.status, 0, stale.output);
  assert.deepEqual(stale.calls, [
    'apt-get install -y --no-install-recommends bubblewrap',
    'apt-get update',
    'apt-get install -y --no-install-recommends bubblewrap',
  ]);
});

test('for npm start bubblewrap alone is wanted', (t) => {
  const { calls } = install(t, 'installBubblewrap', { 'apt-get': aptGet(false) });
  assert.deepEqual(calls, ['apt-get install -y --no-install-recommends bubblewrap']);
});

test('what cannot be installed is told in a sentence that says what to do', (t) => {
  const absent = install(t, 'installSandboxTools', {});
  assert.deepEqual([absent.status, absent.output], [1, 'There is no apt here. Install bubblewrap and strace.\n']);
  const account = install(t, 'installSandboxTools', { 'apt-get': 'exit 1' }, 1000);
  assert.equal(account.status, 1);
  assert.match(account.output, /Only root may install packages.*sudo apt-get install -y bubblewrap strace/);
  const offline = install(t, 'installSandboxTools', { 'apt-get': 'echo no network; exit 100' });
  assert.equal(offline.status, 1);
  assert.match(offline.output, /Reading package lists: .*ended with exit code 100/);
  assert.match(offline.output, /no network/);
});
