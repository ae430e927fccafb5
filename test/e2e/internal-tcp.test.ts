/** Tokenizer, engine and gateway as processes on TCP: with mutual TLS, with a shared token, and refused with neither. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineServiceClient } from '#gen/quern/engine/v1/engine.ts';
import { TokenizerServiceClient } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { QuernError } from '#kit/errors.ts';
import { type ChannelOptions, openChannel, unary } from '#kit/rpc/client.ts';
import { mesh, meshTlsEnv, stranger } from '../fixtures/tls/certificates.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const MODEL = join(ROOT, 'models', 'quern-mini');
const READY_TIMEOUT_MS = 60_000;
const CALL_TIMEOUT_MS = 5_000;

type Env = Record<string, string>;
type Part = { child: ChildProcess; stderr: () => string; message: (type: string) => Promise<Record<string, unknown>> };

const SETTINGS: Record<'tokenizer' | 'engine' | 'gateway', Env> = {
  tokenizer: { QUERN_TOKENIZER_LISTEN: '127.0.0.1:0', QUERN_TOKENIZER_MODELS: `mini=${MODEL}` },
  engine: {
    QUERN_ENGINE_LISTEN: '127.0.0.1:0',
    QUERN_ENGINE_MODEL_NAME: 'mini',
    QUERN_ENGINE_MODEL_DIR: MODEL,
    QUERN_ENGINE_THREADS: '1',
  },
  gateway: { QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0', QUERN_GATEWAY_GRPC_LISTEN: '127.0.0.1:0' },
};

function start(t: TestContext, service: keyof typeof SETTINGS, env: Env): Part {
  const child = spawn(process.execPath, [join(ROOT, 'services', service, 'main.ts')], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...SETTINGS[service], ...env },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const exited = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  let stderr = '';
  child.stderr?.on('data', (piece) => {
    stderr += piece;
  });
  const messages: Record<string, unknown>[] = [];
  child.on('message', (message) => messages.push(message as Record<string, unknown>));
  return {
    child,
    stderr: () => stderr,
    async message(type) {
      const until = Date.now() + READY_TIMEOUT_MS;
      for (;;) {
        const found = messages.find((message) => message.type === type);
        if (found) return found;
        const ended = child.exitCode !== null || child.signalCode !== null;
        if (ended || Date.now() > until) throw new Error(`${service} did not become ${type}: ${stderr}`);
        await sleep(20);
      }
    },
  };
}

async function addressOf(part: Part): Promise<string> {
  const { addresses } = await part.message('ready');
  return (addresses as string[])[0]!;
}

/** A gateway before these services completes one request over HTTP. */
async function completes(t: TestContext, env: Env, tokenizer: string, engine: string): Promise<void> {
  const gateway = start(t, 'gateway', {
    QUERN_GATEWAY_TOKENIZER: tokenizer,
    QUERN_GATEWAY_ENGINES: `mini=${engine}`,
    ...env,
  });
  const url = await addressOf(gateway);
  const until = Date.now() + READY_TIMEOUT_MS;
  while ((await fetch(`${url}/health`)).status !== 200) {
    assert.ok(Date.now() < until, `the gateway never became healthy: ${gateway.stderr()}`);
    await sleep(50);
  }
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ prompt: 'def add(a, b):\n', max_tokens: 8, temperature: 0, ignore_eos: true }),
  });
  const answer = (await response.json()) as { choices: { text: string }[]; usage: { completion_tokens: number } };
  assert.equal(response.status, 200, JSON.stringify(answer));
  assert.equal(answer.usage.completion_tokens, 8);
  assert.ok(answer.choices[0]!.text.length > 0);
}

function describeEngine(t: TestContext, channel: ChannelOptions) {
  const client = openChannel(EngineServiceClient, channel);
  t.after(() => client.close());
  return unary(client, 'describe', {}, { timeoutMs: CALL_TIMEOUT_MS });
}

function encode(t: TestContext, channel: ChannelOptions) {
  const client = openChannel(TokenizerServiceClient, channel);
  t.after(() => client.close());
  const request = { model: 'mini', text: 'x', parseSpecial: 0, addBos: false } as const;
  return unary(client, 'encode', request, { timeoutMs: CALL_TIMEOUT_MS });
}

/** Both services refuse such a caller with this code. */
async function refused(t: TestContext, addresses: string[], access: Partial<ChannelOptions>, code: string) {
  const [tokenizer = '', engine = ''] = addresses;
  const what = JSON.stringify(Object.keys(access.tls ?? access));
  const check = (error: QuernError): boolean => {
    assert.equal(error.code, code, `${what}: ${error.message}`);
    return true;
  };
  await assert.rejects(encode(t, { address: tokenizer, ...access }), check, what);
  await assert.rejects(describeEngine(t, { address: engine, ...access }), check, what);
}

test('mutual TLS: the gateway completes a request; callers without a certificate of the mesh are refused', async (t) => {
  const parts = [start(t, 'tokenizer', meshTlsEnv('server')), start(t, 'engine', meshTlsEnv('server'))];
  const addresses = (await Promise.all(parts.map(addressOf))) as [string, string];
  for (const address of addresses) assert.match(address, /^127\.0\.0\.1:\d+$/);
  await completes(t, { ...meshTlsEnv('gateway'), QUERN_INTERNAL_TLS_SERVER_NAME: 'server.test' }, ...addresses);

  const tls = { ca: mesh.ca, ...mesh.gateway, serverName: 'server.test' };
  assert.equal((await describeEngine(t, { address: addresses[1], tls })).model, 'mini');
  assert.equal((await encode(t, { address: addresses[0], tls })).tokenIds.length, 1);
  await refused(t, addresses, {}, 'UNAVAILABLE');
  await refused(t, addresses, { sharedToken: 'a-token-instead' }, 'UNAVAILABLE');
  await refused(t, addresses, { tls: { ca: mesh.ca } }, 'UNAVAILABLE');
  const { cert, key } = stranger;
  await refused(t, addresses, { tls: { ca: mesh.ca, cert, key } }, 'UNAVAILABLE');
  await refused(t, addresses, { tls: { ...tls, serverName: 'engine.test' } }, 'UNAVAILABLE');
});

test('a shared token: the gateway completes a request; another token or none is UNAUTHENTICATED', async (t) => {
  const env = { QUERN_INTERNAL_TOKEN: 'token-of-this-mesh' };
  const parts = [start(t, 'tokenizer', env), start(t, 'engine', env)];
  const addresses = (await Promise.all(parts.map(addressOf))) as [string, string];
  await completes(t, env, ...addresses);
  await refused(t, addresses, { sharedToken: 'token-of-another-mesh' }, 'UNAUTHENTICATED');
  await refused(t, addresses, {}, 'UNAUTHENTICATED');
});

test('plain TCP with neither refuses to start, on loopback too, and says what to set', async (t) => {
  const parts = {
    tokenizer: start(t, 'tokenizer', {}),
    engine: start(t, 'engine', { QUERN_ENGINE_LISTEN: '0.0.0.0:0' }),
    gateway: start(t, 'gateway', {}),
  };
  const variables = {
    tokenizer: /\(QUERN_TOKENIZER_LISTEN=127\.0\.0\.1:0\)/,
    engine: /\(QUERN_ENGINE_LISTEN=0\.0\.0\.0:0\)/,
    gateway: /\(QUERN_GATEWAY_TOKENIZER=127\.0\.0\.1:50052, QUERN_GATEWAY_ENGINES=127\.0\.0\.1:50053\)/,
  };
  for (const [service, part] of Object.entries(parts)) {
    const { message } = await part.message('fatal');
    if (part.child.exitCode === null) await once(part.child, 'exit');
    assert.equal(part.child.exitCode, 1);
    const text = String(message);
    assert.match(
      text,
      /^1 mistake in the environment:\n {2}QUERN_INTERNAL_TOKEN: expected a shared token or mutual TLS/,
    );
    assert.match(text, variables[service as keyof typeof variables]);
    assert.match(text, /set QUERN_INTERNAL_TOKEN or QUERN_INTERNAL_TOKEN_FILE, or QUERN_INTERNAL_TLS_CERT_FILE/);
    assert.ok(part.stderr().includes(text));
  }
});
