import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseModel, parseModels } from '../../../services/cli/up/model-folder.ts';
import { planProcesses } from '../../../services/cli/up/plan.ts';
import { findFreePort, requireFreePort, splitAddress } from '../../../services/cli/up/ports.ts';

function folder(t: TestContext, files: string[]): string {
  const dir = mkdtempSync(join(tmpdir(), 'quern-cli-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const file of files) {
    mkdirSync(join(dir, file, '..'), { recursive: true });
    writeFileSync(join(dir, file), '{}');
  }
  return dir;
}

const COMPLETE = ['config.json', 'model.safetensors', 'tokenizer.json'];

test('a model folder is named by its last part, or by NAME=', (t) => {
  const dir = folder(t, COMPLETE);
  assert.equal(parseModel(dir, '/').name, dir.split('/').at(-1));
  assert.deepEqual(parseModel(`coder=${dir}`, '/'), { name: 'coder', dir });
});

test('a tokenizer may lie in its own sub-folder', (t) => {
  const dir = folder(t, ['config.json', 'model.safetensors', 'tokenizer/tokenizer.json']);
  assert.equal(parseModel(`m=${dir}`, '/').dir, dir);
});

test('a wrong folder is refused with what it lacks', (t) => {
  assert.throws(() => parseModel('/no/such/folder', '/'), /does not exist/);
  const file = join(folder(t, ['x']), 'x');
  assert.throws(() => parseModel(file, '/'), /is a file/);
  assert.throws(
    () => parseModel(folder(t, ['config.json', 'model.gguf']), '/'),
    /lacks \*\.safetensors .*tokenizer\.json/,
  );
  assert.throws(() => parseModel(`a b=${file}`, '/'), /NAME=DIR/);
});

test('two models need two names', (t) => {
  const dir = folder(t, COMPLETE);
  assert.throws(() => parseModels([`m=${dir}`, `m=${dir}`], '/'), /two models are called "m"/);
});

test('one tokenizer, an engine per model, the gateway last, joined by unix sockets', () => {
  const plan = planProcesses({
    models: [
      { name: 'a', dir: '/models/a' },
      { name: 'b', dir: '/models/b' },
    ],
    http: '127.0.0.1:8000',
    grpc: '127.0.0.1:50051',
    threads: 2,
    dtype: undefined,
    contextLength: undefined,
    metricsPorts: [9153, 9154],
    runtimeDir: '/run/q',
    root: '/q',
    node: 'node',
    env: { PATH: '/bin' },
  });
  assert.deepEqual(
    plan.map(({ kind }) => kind),
    ['tokenizer', 'engine', 'engine', 'gateway'],
  );
  const gateway = plan.at(-1);
  assert.equal(gateway?.env.QUERN_GATEWAY_ENGINES, 'a=unix:///run/q/engine-0.sock;b=unix:///run/q/engine-1.sock');
  assert.equal(gateway?.env.QUERN_GATEWAY_TOKENIZER, plan[0]?.env.QUERN_TOKENIZER_LISTEN);
  assert.equal(plan[1]?.env.QUERN_ENGINE_THREADS, '2');
  assert.equal(plan[2]?.metrics, '127.0.0.1:9154');
  assert.equal('QUERN_ENGINE_DTYPE' in (plan[1]?.env ?? {}), false);
});

test('a taken port is one sentence that names the option', async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  await assert.rejects(
    requireFreePort(`127.0.0.1:${address.port}`, '--http'),
    /is taken.*choose another with --http HOST:PORT/,
  );
  await requireFreePort('127.0.0.1:0', '--http');
  await assert.rejects(
    requireFreePort('192.0.2.1:1234', '--grpc'), // a documentation address: nobody has it
    /^QuernError: 192\.0\.2\.1:1234 is no address of this machine; choose another with --grpc HOST:PORT$/,
  );
});

test('addresses are HOST:PORT, IPv6 in brackets', () => {
  assert.deepEqual(splitAddress('[::1]:80', '--http'), { host: '::1', port: 80 });
  for (const bad of ['8000', '127.0.0.1', '127.0.0.1:99999', ':80']) {
    assert.throws(() => splitAddress(bad, '--http'), /expected HOST:PORT/);
  }
});

test('a port for metrics is the customary one when it is free, else another', async (t) => {
  const free = await findFreePort(undefined, []);
  assert.equal(await findFreePort(free, []), free);
  assert.notEqual(await findFreePort(free, [free]), free);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(free, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  assert.notEqual(await findFreePort(free, []), free);
});
