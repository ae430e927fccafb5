/** What npm takes of `npm start --http X` is told, with what to type, before anything is installed or built. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';

const repository = resolve(import.meta.dirname, '../../..');
const CHECK = "import { refuseTakenOptions } from './scripts/setup/npm-options.mjs';\nrefuseTakenOptions();\n";

/** Without what npm left of the call that runs these tests. */
function cleanEnv(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
}

/** The sentence for this environment of npm's; null: nothing is said. */
function said(left: Record<string, string>, event = 'prestart'): string | null {
  const code = `${CHECK.replace('refuseTakenOptions();', '')}
    try { refuseTakenOptions(); console.log('null'); } catch (error) { console.log(JSON.stringify(error.message)); }`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    cwd: repository,
    encoding: 'utf8',
    env: { ...cleanEnv(), ...left, npm_lifecycle_event: event },
  });
  assert.equal(stderr, '');
  return JSON.parse(stdout) as string | null;
}

const refusal = (names: string, line: string): string =>
  `npm took ${names} for itself: options for Quern stand behind a bare "--". Type: npm start -- ${line}`;

test('what npm took is said with the line to type, with its value where npm kept that', () => {
  assert.equal(said({ npm_config_grpc: 'true' }), refusal('--grpc', '--grpc HOST:PORT'));
  assert.equal(said({ npm_config_grpc: '127.0.0.1:50061' }), refusal('--grpc', '--grpc 127.0.0.1:50061'));
  assert.equal(
    said({ npm_config_tools: '', npm_config_context_length: '64' }),
    refusal('--context-length and --no-tools', '--context-length 64 --no-tools'),
  );
  assert.equal(said({ npm_config_model: "my model's" }), refusal('--model', "--model 'my model'\\''s'"));
});

test('npm reads --http as its own --https-proxy: an address to listen on is no proxy', () => {
  for (const address of ['127.0.0.1:8001', 'localhost:8001', '[::1]:8001', ':8001', '8001']) {
    const expected = `${refusal('--http', `--http ${address}`)}\n(npm's https-proxy is ${address} now; `;
    assert.ok(said({ npm_config_https_proxy: address })?.startsWith(expected), address);
  }
  for (const proxy of ['http://127.0.0.1:3128/', 'http://proxy:3128', 'proxy.example:3128', '']) {
    assert.equal(said({ npm_config_https_proxy: proxy }), null, proxy);
  }
  assert.equal(said({ npm_config_http: 'true' }), refusal('--http', '--http HOST:PORT'));
});

test('nothing is said of what npm has options of its own for, of other values, and of other calls', () => {
  assert.equal(said({ npm_config_audit: '', npm_config_json: 'true', npm_config_loglevel: 'verbose' }), null);
  assert.equal(said({ npm_config_tools: 'true' }), null);
  assert.equal(said({ npm_config_http: 'true' }, 'pretest'), null);
});

/** `npm start` of a package with such a first script, whose start says what reached it. */
function start(t: TestContext, args: string[]): { status: number | null; output: string } {
  const dir = mkdtempSync(join(tmpdir(), 'quern-npm-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  cpSync(join(repository, 'scripts'), join(dir, 'scripts'), { recursive: true });
  writeFileSync(join(dir, 'check.mjs'), CHECK);
  const scripts = { prestart: 'exec node check.mjs', start: 'echo reached:' };
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'taken', version: '1.0.0', scripts }));
  const env = { ...cleanEnv(), npm_config_update_notifier: 'false' };
  const { status, stdout, stderr } = spawnSync('npm', ['start', ...args], { cwd: dir, encoding: 'utf8', env });
  return { status, output: stdout + stderr };
}

test('with npm itself: without the bare "--" nothing starts, with it the options arrive', (t) => {
  for (const args of [
    ['--http', '127.0.0.1:8001'],
    ['--http=127.0.0.1:8001'],
    ['--grpc', '127.0.0.1:50061'],
    ['--no-tools'],
  ]) {
    const { status, output } = start(t, args);
    assert.notEqual(status, 0, output);
    assert.doesNotMatch(output, /^reached:/m);
  }
  const { status, output } = start(t, ['--', '--http', '127.0.0.1:8001', '--no-tools']);
  assert.equal(status, 0, output);
  assert.match(output, /^reached: --http 127\.0\.0\.1:8001 --no-tools$/m);
});

test('npm start asks before it does anything', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/bootstrap.mjs', 'start'], {
    cwd: repository,
    encoding: 'utf8',
    env: { ...cleanEnv(), npm_lifecycle_event: 'prestart', npm_config_http: 'true' },
  });
  assert.deepEqual([status, stdout], [1, '']);
  assert.equal(stderr, `\n${refusal('--http', '--http HOST:PORT')}\n`);
});
