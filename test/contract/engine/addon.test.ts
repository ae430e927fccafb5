// The addon itself: lifetime, exceptions, threads, exits (seams.md section 7). Each case is a process of its own.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { QuernError } from '#kit/errors.ts';
import { openNativeEngine } from '../../../services/engine/native.ts';
import { ADDON, skip, tinyModel } from './support/engine.ts';

type Outcome = { code: number | null; stdout: string; stderr: string };

async function run(script: string, flags: string[] = []): Promise<Outcome> {
  const file = fileURLToPath(new URL('./support/addon-scripts.ts', import.meta.url));
  const args = [...flags, file, script, ADDON, await tinyModel()];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { timeout: 60_000 }, (error, stdout, stderr) => {
      const code = error ? ((error.code as unknown as number | undefined) ?? null) : 0;
      resolve({ code, stdout: stdout.trim(), stderr });
    });
  });
}

test('addon: an exception of the listener ends the process with its message', { skip }, async () => {
  const { code, stderr } = await run('throws');
  assert.equal(code, 1);
  assert.match(stderr, /listener failed on purpose/);
});

test('addon: process.exit at work is clean', { skip }, async () => {
  assert.deepEqual(await run('exits'), { code: 0, stdout: '', stderr: '' });
});

test('addon: garbage collection does not stop the engine', { skip }, async () => {
  const { code, stdout } = await run('collected', ['--expose-gc']);
  assert.deepEqual({ code, stdout }, { code: 0, stdout: '400' });
});

test('addon: close delivers every end, then the process can leave', { skip }, async () => {
  const { code, stdout } = await run('closes');
  assert.deepEqual({ code, stdout }, { code: 0, stdout: '6 the engine is not open' });
});

test('addon: steps of a blocked event loop arrive afterwards, none lost', { skip }, async () => {
  const { code, stdout } = await run('blocked');
  assert.equal(code, 0);
  const [tokens, batches] = stdout.split(' ').map(Number);
  assert.equal(tokens, 300);
  assert.ok((batches ?? 0) >= 300);
});

test('addon: works in worker threads, also when one is terminated at work', { skip }, async () => {
  const { code, stdout, stderr } = await run('workers');
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '2 true', stderr: '' });
});

test('addon: threads may be terminated at any moment', { skip }, async () => {
  const { code, stdout, stderr } = await run('terminations');
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'survived', stderr: '' });
});

test('addon: foreign handles and wrong arguments are TypeErrors, not crashes', { skip }, () => {
  const addon = createRequire(import.meta.url)(ADDON) as Record<string, (...args: unknown[]) => unknown>;
  for (const name of ['openEngine', 'closeEngine', 'submit', 'cancel', 'drain', 'load']) {
    for (const bad of [undefined, null, 7, {}, new Map(), Object.create(null)]) {
      assert.throws(() => addon[name]?.(bad), /handle: expected the result of createEngine/);
    }
  }
  assert.throws(() => addon.createEngine?.({}), /expected \(options, onBatch, onProgress\)/);
  const listener = () => {};
  assert.throws(() => addon.createEngine?.({}, listener, listener), /options\.modelDir: expected a value/);
});

test('addon: a model that does not load is one error that says what to do', { skip }, async () => {
  const engine = {
    modelDir: '/nonexistent',
    dtype: null,
    backend: null,
    isa: null,
    threads: 1,
    contextLength: null,
    kvBytes: null,
    blockSize: null,
    maxNumSeqs: null,
    maxNumBatchedTokens: null,
    maxWaiting: null,
    prefixCache: null,
  };
  await assert.rejects(openNativeEngine({ addonPath: ADDON, engine }), (error) => {
    assert.ok(error instanceof QuernError);
    assert.match(error.message, /nonexistent/);
    return true;
  });
  await assert.rejects(openNativeEngine({ addonPath: '/nonexistent.node', engine }), /npm run build:native/);
});

test('addon: a load that is aborted frees what came of it', { skip }, async () => {
  const { code, stdout } = await run('aborted');
  assert.deepEqual({ code, stdout }, { code: 0, stdout: 'stopping' });
});
