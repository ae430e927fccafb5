import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readConfig } from '../../../services/tokenizer/config.ts';

test('models by name, everything else by default', () => {
  const config = readConfig({ QUERN_TOKENIZER_MODELS: 'a=/models/a, org/b.1=/models/b=c', QUERN_INTERNAL_TOKEN: 't' });
  assert.deepEqual(config.models, [
    { name: 'a', dir: '/models/a' },
    { name: 'org/b.1', dir: '/models/b=c' },
  ]);
  assert.equal(config.listen, '127.0.0.1:50052');
  assert.equal(config.maxTextBytes, 4 * 2 ** 20);
  assert.deepEqual(config.internal, { token: 't', tls: null });
  assert.equal(config.metricsListen, null);
});

test('what is wrong is named with what was expected', () => {
  const refused = (env: NodeJS.ProcessEnv, message: RegExp): void =>
    assert.throws(() => readConfig({ QUERN_INTERNAL_TOKEN: 't', ...env }), { message });
  refused({}, /QUERN_TOKENIZER_MODELS: expected .*name=folder items, but it is not set; set it/);
  refused({ QUERN_TOKENIZER_MODELS: 'a' }, /QUERN_TOKENIZER_MODELS: expected .*name=folder items, got "a"/);
  refused({ QUERN_TOKENIZER_MODELS: 'a=/x,a=/y' }, /expected each name once, got "a" twice; rename one/);
  refused({ QUERN_TOKENIZER_MODELS: 'a=/x', QUERN_TOKENIZER_MAX_TEXT_BYTES: '1GiB' }, /QUERN_TOKENIZER_MAX_TEXT_BYTES/);
  refused(
    { QUERN_TOKENIZER_MODELS: 'a=/x', QUERN_INTERNAL_TOKEN_FILE: '/nowhere' },
    /QUERN_INTERNAL_TOKEN_FILE: expected a readable file .*, got \/nowhere, which cannot be read \(ENOENT\)/,
  );
});

test('the shared token may stand in a file', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-token-'));
  t.after(() => rm(dir, { recursive: true }));
  await writeFile(join(dir, 'token'), 'secret\n');
  await writeFile(join(dir, 'empty'), '\n');
  const env = { QUERN_TOKENIZER_MODELS: 'a=/x' };
  assert.equal(readConfig({ ...env, QUERN_INTERNAL_TOKEN_FILE: join(dir, 'token') }).internal.token, 'secret');
  assert.throws(
    () => readConfig({ ...env, QUERN_INTERNAL_TOKEN_FILE: join(dir, 'empty') }),
    /got .*empty, which is empty; correct it/,
  );
});

test('TCP without a token or mutual TLS is refused, on loopback too', () => {
  const env = { QUERN_TOKENIZER_MODELS: 'a=/x' };
  assert.throws(
    () => readConfig(env),
    /QUERN_INTERNAL_TOKEN: .*\(QUERN_TOKENIZER_LISTEN=127\.0\.0\.1:50052\), got neither/,
  );
  assert.equal(readConfig({ ...env, QUERN_TOKENIZER_LISTEN: 'unix:///run/t.sock' }).internal.token, null);
});
