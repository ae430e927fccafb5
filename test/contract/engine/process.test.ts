// The engine as a process: readiness to its parent, clean exit on SIGTERM, failures that say what to do, crashes that show.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EngineServiceClient } from '#gen/quern/engine/v1/engine.ts';
import type { QuernError } from '#kit/errors.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { engineEnv } from '../../../services/engine/config.ts';
import { ADDON, generation, LONG, sampling, skip, TestSession, tinyModel } from './support/engine.ts';

const MAIN = fileURLToPath(new URL('../../../services/engine/main.ts', import.meta.url));

type Running = { child: ChildProcess; output(): string; message(type: string): Promise<Record<string, unknown>> };

async function start(t: TestContext, env: Record<string, string>): Promise<Running & { address: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'quern-engine-'));
  const address = `unix://${join(folder, 'engine.sock')}`;
  const child = spawn(process.execPath, [MAIN], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      PATH: process.env.PATH,
      QUERN_ENGINE_MODEL_NAME: 'tiny',
      QUERN_ENGINE_LISTEN: address,
      QUERN_ENGINE_THREADS: '1',
      QUERN_ENGINE_ADDON: ADDON,
      QUERN_ENGINE_MODEL_DIR: await tinyModel(),
      ...env,
    },
  });
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk));
  const messages: Record<string, unknown>[] = [];
  child.on('message', (message) => messages.push(message as Record<string, unknown>));
  return {
    child,
    address,
    output: () => output,
    async message(type) {
      for (;;) {
        const found = messages.find((message) => message.type === type);
        if (found) return found;
        await once(child, 'message');
      }
    },
  };
}

test('process: says when it is ready and what it serves; SIGTERM ends it with 0', { skip }, async (t) => {
  const { child, message, address } = await start(t, {});
  const ready = await message('ready');
  assert.deepEqual(ready.addresses, [address]);
  assert.equal(ready.backend, 'cpu');
  assert.equal(ready.model, 'tiny');
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('process: SIGTERM at work ends requests with their final events, exit 0', { skip }, async (t) => {
  const { child, message, address } = await start(t, { QUERN_ENGINE_DRAIN_GRACE: '100ms' });
  await message('ready');
  const client = openChannel(EngineServiceClient, { address });
  t.after(() => client.close());
  const session = new TestSession(client);
  session.submit(1, generation({ sampling: sampling({ maxTokens: LONG }) }));
  await session.until(() => session.tokens.has(1));
  child.kill('SIGTERM');
  const exit = once(child, 'exit');
  await session.untilEnded();
  assert.equal(session.finished.get(1)?.status?.code, 14);
  assert.deepEqual(await exit, [0, null]);
});

test('process: what is wrong with its settings or its model is one readable sentence', { skip }, async (t) => {
  const broken = await start(t, { QUERN_ENGINE_MODEL_DIR: '/nonexistent' });
  const fatal = await broken.message('fatal');
  assert.match(String(fatal.message), /\/nonexistent/);
  assert.equal(fatal.reason, 'MODEL_REJECTED');
  // It says so to whoever asks for a while: a gateway records it.
  const client = openChannel(EngineServiceClient, { address: broken.address });
  t.after(() => client.close());
  const reasons: string[] = [];
  while (reasons.at(-1) !== 'MODEL_REJECTED' && broken.child.exitCode === null) {
    const asked = unary(client, 'describe', {}, { timeoutMs: 5_000 });
    reasons.push(
      await asked.then(
        () => 'OK',
        ({ details }: QuernError) => details.reason,
      ),
    );
  }
  assert.equal(reasons.at(-1), 'MODEL_REJECTED', reasons.join(' '));
  if (broken.child.exitCode === null) await once(broken.child, 'exit');
  assert.equal(broken.child.exitCode, 1);

  const tight = await start(t, { QUERN_ENGINE_CONTEXT_LENGTH: '4096', QUERN_ENGINE_KV_BYTES: '100KiB' });
  assert.match(String((await tight.message('fatal')).message), /cannot hold one context: 4096 tokens x \d+ bytes/);
});

test('process: a model that does not fit into memory is refused before it is loaded', { skip }, async (t) => {
  const huge = await start(t, { QUERN_ENGINE_BACKEND: 'cpu', QUERN_ENGINE_KV_BYTES: '1000000GiB' });
  const text = String((await huge.message('fatal')).message);
  assert.match(text, /the model needs 1000000\.0\d GiB .* leaves \d+\.\d\d GiB; .*lower kv_bytes/);
});

test('process: every instruction set on offer starts, or says that the processor lacks it', { skip }, async (t) => {
  for (const isa of engineEnv.isa.expected.replace('one of ', '').split(', ')) {
    const { child, message } = await start(t, { QUERN_ENGINE_BACKEND: 'cpu', QUERN_ENGINE_ISA: isa });
    const outcome = await Promise.race([message('ready'), message('fatal')]);
    if (outcome.type === 'ready') child.kill('SIGTERM');
    else assert.match(String(outcome.message), new RegExp(`isa '${isa}' was asked for, .* lacks it; use 'auto'`));
    if (child.exitCode === null) await once(child, 'exit');
    assert.equal(child.exitCode, outcome.type === 'ready' ? 0 : 1);
    if (isa === 'auto' || isa === 'portable') assert.equal(outcome.type, 'ready');
  }
});

test('process: a native crash shows as a signal or a non-zero status', { skip }, async (t) => {
  const { child, message } = await start(t, {});
  await message('ready');
  child.kill('SIGABRT');
  const [code, signal] = await once(child, 'exit');
  assert.ok(code !== 0 || signal === 'SIGABRT');
});
