/** What set-up says while it works, and in which folders it keeps the programs that outlive a checkout. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';

const scripts = resolve(import.meta.dirname, '../../../scripts');

function evaluate(folder: string, code: string, env: NodeJS.ProcessEnv = {}): string {
  const { QUERN_CACHE_DIR: _, XDG_CACHE_HOME: __, ...inherited } = process.env;
  const args = ['--input-type=module', '-e', code];
  return execFileSync(process.execPath, args, { cwd: folder, env: { ...inherited, ...env }, encoding: 'utf8' });
}

test('a long step says at once what it does and how long that takes, and goes on saying so', () => {
  const code = `import { timed } from './setup/steps.mjs';
    let lines = 0;
    const write = process.stdout.write.bind(process.stdout);
    const enough = new Promise((done) => { process.stdout.write = (text) => { write(text); if (++lines === 3) done(); }; });
    await timed('thing', 'built', () => enough, { expect: 'building it; usually a minute', stillEveryMs: 5 });`;
  const [first, ...more] = evaluate(scripts, code).trim().split('\n');
  assert.equal(first, 'thing: building it; usually a minute ...');
  for (const line of more.slice(0, 2)) assert.match(line, /^thing: still at it after \d+\.\d s \.\.\.$/);
  assert.match(more.at(-1) ?? '', /^thing: built in \d/);
  assert.equal(more.length, 3);
});

test('a long step that tells how far it is says that instead', () => {
  const code = `import { timed } from './setup/steps.mjs';
    const write = process.stdout.write.bind(process.stdout);
    await timed('thing', 'built', (tell) => new Promise((done) => {
      tell('49 of 92');
      process.stdout.write = (text) => { write(text); done(); };
    }), { stillEveryMs: 5 });`;
  assert.match(evaluate(scripts, code), /^thing \.\.\.\nthing: 49 of 92 after \d+\.\d s \.\.\.\nthing: built in \d/);
});

test('nats-server and Jaeger lie in the user’s cache folder; what an older set-up built into the checkout is found', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'quern-setup-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const checkout = join(dir, 'checkout');
  cpSync(scripts, join(checkout, 'scripts'), { recursive: true });
  const home = join(dir, 'home');
  const code = `import { findBuilt, programsDir } from './scripts/setup/paths.mjs';
    console.log(JSON.stringify([programsDir, findBuilt('nats-server-1', 'nats-server')]));`;
  const places = (env: NodeJS.ProcessEnv = {}): [string, string | null] =>
    JSON.parse(evaluate(checkout, code, { HOME: home, ...env })) as [string, string | null];
  const install = (folder: string): string => {
    mkdirSync(join(folder, 'nats-server-1'), { recursive: true });
    const path = join(folder, 'nats-server-1', 'nats-server');
    writeFileSync(path, '#!/bin/sh\n', { mode: 0o755 });
    return path;
  };
  const cache = join(home, '.cache/quern');
  assert.deepEqual(places(), [cache, null]);
  const old = install(join(checkout, '.cache'));
  assert.deepEqual(places(), [cache, old]);
  const own = install(cache);
  assert.deepEqual(places(), [cache, own]);
  assert.deepEqual(places({ XDG_CACHE_HOME: 'relative' }), [cache, own]);
  assert.deepEqual(places({ XDG_CACHE_HOME: join(dir, 'xdg') }), [join(dir, 'xdg/quern'), old]);
  assert.deepEqual(places({ QUERN_CACHE_DIR: join(dir, 'ci') }), [join(dir, 'ci'), null]);
});
