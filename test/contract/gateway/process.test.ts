// The gateway as a process: ready over ipc, drains on SIGTERM, explains a bad environment.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually } from './fakes/mesh.ts';
import { startMockEngine } from './fakes/mock-engine.ts';
import { startMockTokenizer } from './fakes/mock-tokenizer.ts';

const MAIN = fileURLToPath(new URL('../../../services/gateway/main.ts', import.meta.url));

function start(t: TestContext, env: Record<string, string>): { child: ChildProcess; stderr: () => string } {
  const child = fork(MAIN, [], {
    execArgv: [], // not those of the test runner
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  t.after(() => child.kill('SIGKILL'));
  return { child, stderr: () => stderr };
}

test('serves when ready, ends running requests on SIGTERM, exits 0', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-gwp-'));
  const engine = await startMockEngine({ listen: `unix://${folder}/engine.sock`, stepMs: 10 });
  const tokenizer = await startMockTokenizer({ listen: `unix://${folder}/tokenizer.sock` });
  t.after(async () => {
    await engine.close();
    await tokenizer.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const { child } = start(t, {
    QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0',
    QUERN_GATEWAY_GRPC_LISTEN: `unix://${folder}/gateway.sock`,
    QUERN_GATEWAY_TOKENIZER: tokenizer.address,
    QUERN_GATEWAY_ENGINES: `mock=${engine.address}`,
    QUERN_GATEWAY_DRAIN_GRACE: '60s',
  });
  const [ready] = (await once(child, 'message')) as [{ type: string; addresses: string[]; models: string[] }];
  assert.deepEqual([ready.type, ready.models], ['ready', ['mock']]);
  const url = ready.addresses[0] ?? '';
  await eventually(async () => (await fetch(`${url}/health`)).status === 200, 'healthy', 60_000);
  const body = JSON.stringify({ prompt: 'x', max_tokens: 60 });
  const running = fetch(`${url}/v1/completions`, { method: 'POST', body });
  await eventually(() => engine.live === 1, 'running');
  child.kill('SIGTERM');
  const killedAt = performance.now();
  const answer = (await (await running).json()) as { usage: { completion_tokens: number } };
  assert.equal(answer.usage.completion_tokens, 60);
  const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
  assert.equal(code, 0);
  assert.ok(performance.now() - killedAt < 40_000, 'a kept-alive connection held up the drain');
});

test('a bad environment ends the process with every mistake named', async (t) => {
  const { child, stderr } = start(t, { QUERN_GATEWAY_MAX_REQUESTS: 'many', QUERN_GATEWAY_ENGINES: 'x' });
  const [code] = await once(child, 'close'); // not `exit`: its last words may still be in the pipe
  assert.equal(code, 1);
  assert.match(stderr(), /QUERN_GATEWAY_MAX_REQUESTS: expected an integer/);
  assert.match(stderr(), /QUERN_GATEWAY_ENGINES: expected name=address/);
});
