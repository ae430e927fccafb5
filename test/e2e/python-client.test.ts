/** A Python client generated from our protos talks to a real mesh. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { glob } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startMesh } from './mesh.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const run = promisify(execFile);

test('a generated Python client completes, streams, cancels, and reads errors', async (t) => {
  const { findPythonClients } = (await import(join(ROOT, 'scripts', 'setup', 'python-clients.mjs'))) as {
    findPythonClients: () => string | null;
  };
  const python = findPythonClients();
  assert.ok(python !== null, 'grpcio is not installed; "node scripts/bootstrap.mjs test" installs it');
  const generated = mkdtempSync(join(tmpdir(), 'quern-python-'));
  t.after(() => rmSync(generated, { recursive: true, force: true }));
  const protos: string[] = [];
  for await (const file of glob('proto/**/*.proto', { cwd: ROOT })) protos.push(file);
  const protoc = ['-m', 'grpc_tools.protoc', '-Iproto', `--python_out=${generated}`, `--grpc_python_out=${generated}`];
  await run(python, [...protoc, ...protos.sort()], { cwd: ROOT });
  const mesh = await startMesh(t);
  const { stdout } = await run(python, [join(import.meta.dirname, 'python', 'client.py'), mesh.grpc, generated]);
  const seen = JSON.parse(stdout) as {
    unary: string;
    streamed: string;
    completion_tokens: number;
    kinds: string[];
    cancelled: string;
    refusal: string;
    models: string[];
    infill_last: string;
  };
  assert.ok(seen.unary.length > 0);
  assert.equal(seen.streamed, seen.unary);
  assert.equal(seen.completion_tokens, 12);
  assert.equal(seen.kinds[0], 'accepted');
  assert.equal(seen.kinds.at(-1), 'end');
  assert.equal(seen.cancelled, 'CANCELLED');
  assert.match(seen.refusal, /^INVALID_ARGUMENT: .*top_p.*1\.5/);
  assert.deepEqual(seen.models, ['quern-mini']);
  assert.equal(seen.infill_last, 'end');
});
