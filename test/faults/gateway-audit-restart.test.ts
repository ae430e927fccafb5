// An error of the outbox's disk ends the process, after what ran has ended; the next start reads the disk again and serves.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { assertPaired, named, recordsIn } from '../contract/gateway/fakes/audit-records.ts';
import { eventually } from '../contract/gateway/fakes/mesh.ts';
import { startMockEngine } from '../contract/gateway/fakes/mock-engine.ts';
import { startMockTokenizer } from '../contract/gateway/fakes/mock-tokenizer.ts';

const MAIN = fileURLToPath(new URL('../../services/gateway/main.ts', import.meta.url));

/** Loaded before the gateway: fdatasync fails as long as a file is there. */
const failing = (flag: string): string => `
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
const file = await open('/dev/null');
const prototype = Object.getPrototypeOf(file);
const { datasync } = prototype;
prototype.datasync = function () {
  if (existsSync(${JSON.stringify(flag)})) return Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' }));
  return datasync.call(this);
};
await file.close();
`;

test('a broken disk: running requests end, the process does, and a new one serves', { timeout: 110_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-eio-'));
  const engine = await startMockEngine({ listen: `unix://${folder}/engine.sock`, stepMs: 20 });
  const tokenizer = await startMockTokenizer({ listen: `unix://${folder}/tokenizer.sock` });
  const flag = join(folder, 'eio');
  const preload = join(folder, 'preload.mjs');
  writeFileSync(preload, failing(flag));
  const env = {
    ...process.env,
    QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0',
    QUERN_GATEWAY_GRPC_LISTEN: `unix://${folder}/gateway.sock`,
    QUERN_GATEWAY_TOKENIZER: tokenizer.address,
    QUERN_GATEWAY_ENGINES: `mock=${engine.address}`,
    QUERN_AUDIT_OUTBOX_DIR: join(folder, 'outbox'),
    QUERN_AUDIT_KEY_DIR: join(folder, 'keys'),
    QUERN_NATS_URL: 'nats://127.0.0.1:1',
  };
  const start = async () => {
    const child = fork(MAIN, [], {
      env,
      execArgv: ['--import', preload],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    t.after(() => child.kill('SIGKILL'));
    const [ready] = (await once(child, 'message')) as [{ addresses: string[] }];
    const url = ready.addresses[0] ?? '';
    await eventually(async () => (await fetch(`${url}/health`)).status === 200, 'healthy', 60_000);
    const ask = (max_tokens: number) =>
      fetch(`${url}/v1/completions`, { method: 'POST', body: JSON.stringify({ prompt: 'x', max_tokens }) });
    return { child, ask };
  };
  t.after(async () => {
    await engine.close();
    await tokenizer.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const first = await start();
  const ended = once(first.child, 'exit');
  const running = first.ask(100);
  await eventually(() => engine.live === 1, 'running', 60_000);
  writeFileSync(flag, '');
  assert.equal((await first.ask(2)).status, 503);
  const answer = await running;
  assert.equal(answer.status, 200, 'what was accepted is answered');
  await answer.text();
  assert.deepEqual((await ended)[0], 1);
  rmSync(flag);
  assert.ok(!existsSync(flag));
  const second = await start();
  assert.equal((await second.ask(2)).status, 200);
  second.child.kill('SIGTERM');
  assert.deepEqual((await once(second.child, 'exit'))[0], 0);
  const records = await recordsIn(join(folder, 'outbox'));
  assertPaired(records);
  assert.ok(named(records, 'request.finished').some(({ reason }) => reason === 'RECOVERED'));
});
