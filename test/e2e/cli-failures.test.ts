/** A mesh that cannot start says why in one sentence, fails, and leaves nothing: no process, no socket, no folder. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { on, once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { recordsIn } from '../contract/gateway/fakes/audit-records.ts';
import { quern, startMesh } from './mesh.ts';

const GONE_WITHIN_MS = 20_000; // the grace of a drain, on a loaded machine
const UP = ['up', '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0'];

/** An environment whose marker every process of the mesh inherits, with a folder of its own for state and sockets. */
function ownPlace(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'quern-up-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const runtime = join(dir, 'run');
  mkdirSync(runtime, { mode: 0o700 });
  const env = { QUERN_STATE_DIR: join(dir, 'state'), XDG_RUNTIME_DIR: runtime };
  return { env, runtime, pids: () => pidsWith(`QUERN_STATE_DIR=${env.QUERN_STATE_DIR}`) };
}

/** Every living process that was started with this variable. */
function pidsWith(variable: string): number[] {
  const hasIt = (pid: string): boolean => {
    try {
      const dead = /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
      return !dead && readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(variable);
    } catch {
      return false; // ended meanwhile, or another user's
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && hasIt(name))
    .map(Number);
}

async function untilGone(pids: () => number[]): Promise<void> {
  for (const start = performance.now(); pids().length > 0; await sleep(50)) {
    assert.ok(performance.now() - start < GONE_WITHIN_MS, `still running: ${pids().join(', ')}`);
  }
}

type Expected = { args?: string[]; env?: NodeJS.ProcessEnv; code: number; says: RegExp };

/** Answers the state folder that it had. */
async function fails(t: TestContext, { args = [], env = {}, code, says }: Expected): Promise<string> {
  const place = ownPlace(t);
  const result = await quern([...UP, ...args], { env: { ...place.env, ...env } });
  assert.equal(result.code, code, result.stderr);
  assert.match(result.stderr, says);
  // All ended before the command did: nothing is waited for here.
  assert.deepEqual(place.pids(), []);
  assert.deepEqual(readdirSync(place.runtime), []);
  return place.env.QUERN_STATE_DIR;
}

test('a taken port, HTTP or gRPC', async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  for (const option of ['--http', '--grpc']) {
    const says = new RegExp(`^quern: port ${address.port} is taken: .*${option} HOST:PORT\n$`);
    await fails(t, { args: [option, `127.0.0.1:${address.port}`], code: 1, says });
  }
});

test('a wrong model folder', async (t) => {
  const says = /^quern: model model: expected a Hugging Face model folder, but \/no\/such\/model does not exist\n$/;
  await fails(t, { args: ['--model', '/no/such/model'], code: 2, says });
});

test('a model that only the engine can find wrong', async (t) => {
  const { env } = ownPlace(t);
  const dir = env.QUERN_STATE_DIR;
  mkdirSync(dir);
  const mini = new URL('../../models/quern-mini/', import.meta.url);
  const config = JSON.parse(readFileSync(new URL('config.json', mini), 'utf8')) as object;
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...config, hidden_act: 'gelu' }));
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'model.safetensors']) {
    writeFileSync(join(dir, file), readFileSync(new URL(file, mini)));
  }
  const state = await fails(t, {
    args: ['--model', `odd=${dir}`],
    code: 1,
    says: /^quern: engine: .*hidden_act: expected "silu", got "gelu"\n$/,
  });
  // No gateway came to be, and the record is in its outbox all the same.
  const records = await recordsIn(join(state, 'outbox', 'gateway'));
  assert.deepEqual(
    records.map(({ action, target, reason }) => [action, target, reason]),
    [['model.rejected', 'odd', 'MODEL_REJECTED']],
  );
});

test('memory that is too small', async (t) => {
  const says = /^quern: engine: .*needs 1000000\.\d+ GiB .* leaves \d+\.\d+ GiB; .*lower kv_bytes.*\n$/;
  await fails(t, { env: { QUERN_ENGINE_KV_BYTES: '1000000GiB', QUERN_ENGINE_BACKEND: 'cpu' }, code: 1, says });
});

test('an addon that is missing, and one that does not load', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'quern-addon-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'engine_addon.node');
  await fails(t, {
    env: { QUERN_ENGINE_ADDON: file },
    code: 1,
    says: /^quern: the native engine is not built \(.*engine_addon\.node is missing\); run "npm run build:native", .*\n$/,
  });
  writeFileSync(file, 'not an addon');
  await fails(t, {
    env: { QUERN_ENGINE_ADDON: file },
    code: 1,
    says: /^quern: engine: the engine addon does not load: .*\nExpected a built addon at .*Possible causes:\n/,
  });
});

test('a content policy with mistakes, told before anything is started', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'quern-policy-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const policy = join(dir, 'policy.json');
  const tenant = { prompts: 'yes', responses: true, max_bytes: 1, redact: true };
  writeFileSync(policy, JSON.stringify({ version: 1, tenants: { acme: tenant } }));
  const env = { QUERN_AUDIT_CONTENT_POLICY: policy };
  const says =
    /^quern: .*policy\.json: 2 mistakes:\n {2}tenants\.acme\.prompts: .*\n {2}tenants\.acme\.max_bytes: .*\n/;
  const state = await fails(t, { env, code: 2, says });
  assert.equal(existsSync(join(state, 'logs')), false, 'nothing was started');
});

test('wrong settings of a part', async (t) => {
  const says =
    /^quern: engine: 1 mistake in the environment:\n {2}QUERN_ENGINE_THREADS: expected an integer 1\.\.1024, got "many"; /;
  await fails(t, { env: { QUERN_ENGINE_THREADS: 'many' }, code: 1, says });
});

test('after kill -9 the parts end by themselves, and the next start sweeps the folder', async (t) => {
  const { env, runtime, pids } = ownPlace(t);
  const mesh = await startMesh(t, { env });
  const [folder, ...others] = readdirSync(runtime);
  assert.ok(folder !== undefined && others.length === 0);
  assert.equal(pids().length, 4, 'quern up and its three parts');
  const closed = once(mesh.child, 'close');
  mesh.child.kill('SIGKILL');
  await closed;
  await untilGone(pids);
  assert.ok(existsSync(join(runtime, folder, 'mesh.json')));

  const next = await startMesh(t, { env });
  assert.equal(existsSync(join(runtime, folder)), false);
  assert.equal(readdirSync(runtime).length, 1);
  assert.equal(await next.stop(), 0);
  assert.deepEqual(readdirSync(runtime), []);
  assert.deepEqual(pids(), []);
});

test('a second Ctrl-C ends at once and leaves nothing', async (t) => {
  const { env, runtime, pids } = ownPlace(t);
  const mesh = await startMesh(t, { env });
  const cut = new AbortController();
  t.after(() => cut.abort());
  const body = { prompt: 'def f():', max_tokens: 1500, temperature: 0, ignore_eos: true, stream: true };
  const response = await fetch(`http://${mesh.http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: cut.signal,
  });
  const ended = response.text().catch(() => 'cut');
  mesh.child.kill('SIGINT');
  await mesh.seen(({ event }) => event === 'draining');
  await sleep(400); // sooner it would count as the same key press
  mesh.child.kill('SIGINT');
  assert.equal(await mesh.stop(), 130);
  await ended;
  assert.deepEqual(readdirSync(runtime), []);
  await untilGone(pids);
});

for (const how of ['Ctrl-C', 'closed output'] as const) {
  test(`${how} while the parts are starting ends them too`, async (t) => {
    const { env, runtime, pids } = ownPlace(t);
    const bin = new URL('../../services/cli/bin.mjs', import.meta.url).pathname;
    const child = spawn(process.execPath, [bin, ...UP, '--json'], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    t.after(() => child.kill('SIGKILL'));
    const exited = once(child, 'exit');
    let output = '';
    for await (const [piece] of on(child.stdout, 'data')) {
      output += piece;
      if (output.includes('"event":"started"')) break;
    }
    if (how === 'Ctrl-C') child.kill('SIGINT');
    else child.stdout.destroy();
    await exited;
    await untilGone(pids);
    assert.deepEqual(readdirSync(runtime), []);
  });
}
