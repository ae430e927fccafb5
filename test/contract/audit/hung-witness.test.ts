// A witness that never answers: the service signs, and goes when it is told to.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { newestCheckpoint } from '#kit/audit/checkpoint-file.ts';
import { Ledger } from '../../../services/audit/ledger.ts';
import { WITNESS_CLOSE_MS } from '../../../services/audit/limits.ts';
import { makeLog } from '../../unit/kit/audit/support/log.ts';
import { undo } from './support/undo.ts';

const MAIN = fileURLToPath(new URL('../../../services/audit/main.ts', import.meta.url));
const WITNESSES = 6;

test('six witnesses that hang hold up neither signing nor the exit', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  const ledger = await Ledger.open({ dir: join(dir, 'audit', 'ledger') });
  await ledger.append(makeLog(5));
  await ledger.close();
  const pipes = Array.from({ length: WITNESSES }, (_, i) => join(dir, `pipe-${i}`));
  await promisify(execFile)('mkfifo', pipes); // opening one to write hangs until somebody reads
  const env = {
    PATH: process.env.PATH,
    QUERN_AUDIT_LISTEN: `unix://${dir}/run/audit.sock`,
    QUERN_AUDIT_DIR: join(dir, 'audit'),
    QUERN_AUDIT_KEY_DIR: join(dir, 'keys'),
    QUERN_NATS_URL: 'nats://127.0.0.1:1',
    QUERN_AUDIT_WITNESSES: pipes.join(','),
    QUERN_AUDIT_RETENTION_DAYS: '36500',
    QUERN_AUDIT_DRAIN_GRACE: '100ms',
  };
  const child = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  undo(t, () => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  let output = '';
  const ready = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('"msg":"ready"')) resolve();
      });
    }
  });
  await Promise.race([ready, exited]);
  const startMs = performance.now();
  child.kill('SIGTERM');
  assert.deepEqual(await exited, [0, null], output);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < WITNESS_CLOSE_MS + 10_000, `${tookMs} ms`);
  assert.equal((output.match(/a witness of the audit log lacks the newest notes/g) ?? []).length, WITNESSES, output);
  assert.ok(await newestCheckpoint(join(dir, 'audit', 'checkpoints.jsonl')), 'it signed all the same');
});
