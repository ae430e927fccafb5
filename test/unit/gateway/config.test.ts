import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readConfig } from '../../../services/gateway/config.ts';

const TOKEN = { QUERN_INTERNAL_TOKEN: 'mesh-token' };

test('defaults serve one local model on loopback', () => {
  const config = readConfig(TOKEN);
  assert.deepEqual(config.http, { host: '127.0.0.1', port: 8000, loopbackOnly: true });
  assert.equal(config.grpcListen, '127.0.0.1:50051');
  assert.deepEqual(config.models, [{ name: 'quern-mini', addresses: ['127.0.0.1:50053'] }]);
  assert.equal(config.keysFile, null);
});

test('models with several engines', () => {
  const { models } = readConfig({
    ...TOKEN,
    QUERN_GATEWAY_ENGINES: 'a=unix:///run/a.sock, 10.0.0.2:50053 ;b=[::1]:9;',
  });
  assert.deepEqual(models, [
    { name: 'a', addresses: ['unix:///run/a.sock', '10.0.0.2:50053'] },
    { name: 'b', addresses: ['[::1]:9'] },
  ]);
});

test('what cannot be served is refused, naming the variable', () => {
  const cases: [NodeJS.ProcessEnv, RegExp][] = [
    [{ QUERN_GATEWAY_HTTP_LISTEN: '0.0.0.0:8000' }, /QUERN_KEYS_FILE: expected API keys to listen beyond this machine/],
    [{ QUERN_GATEWAY_GRPC_LISTEN: '0.0.0.0:50051' }, /QUERN_KEYS_FILE/],
    [{ QUERN_GATEWAY_ENGINES: 'mini' }, /QUERN_GATEWAY_ENGINES/],
    [{ QUERN_GATEWAY_ENGINES: 'a=x:1;a=y:1' }, /stands twice/],
    [{ QUERN_GATEWAY_ENGINES: 'a=nowhere' }, /address: expected/],
    [{ QUERN_GATEWAY_HTTP_LISTEN: 'unix:///x' }, /QUERN_GATEWAY_HTTP_LISTEN/],
    [{ QUERN_GATEWAY_MAX_REQUESTS: '0' }, /QUERN_GATEWAY_MAX_REQUESTS/],
    [
      { QUERN_GATEWAY_TLS_CERT_FILE: '/x' },
      /TLS_CERT_FILE: .*got \/x, which cannot be read[\s\S]*TLS_KEY_FILE: .* not set/,
    ],
    [{ QUERN_INTERNAL_TOKEN_FILE: '/does/not/exist' }, /QUERN_INTERNAL_TOKEN_FILE/],
  ];
  for (const [env, expected] of cases) {
    assert.throws(() => readConfig({ ...TOKEN, ...env }), expected, JSON.stringify(env));
  }
});

test('services on TCP are not called without a token or mutual TLS', () => {
  const sockets = { QUERN_GATEWAY_TOKENIZER: 'unix:///t', QUERN_GATEWAY_ENGINES: 'a=unix:///e' };
  assert.equal(readConfig(sockets).internal.token, null);
  assert.throws(
    () => readConfig({ ...sockets, QUERN_GATEWAY_ENGINES: 'a=unix:///e,127.0.0.1:1;b=10.0.0.2:2' }),
    /TCP \(QUERN_GATEWAY_ENGINES=127\.0\.0\.1:1, QUERN_GATEWAY_ENGINES=10\.0\.0\.2:2\), got neither/,
  );
});

test('secrets come from a file, or from the variable first', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-config-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'token');
  writeFileSync(file, ' from-file\n');
  assert.equal(readConfig({ QUERN_INTERNAL_TOKEN_FILE: file }).internal.token, 'from-file');
  assert.equal(
    readConfig({ QUERN_INTERNAL_TOKEN_FILE: file, QUERN_INTERNAL_TOKEN: 'direct' }).internal.token,
    'direct',
  );
  assert.equal(readConfig({ ...TOKEN, QUERN_GATEWAY_SALT_SECRET_FILE: file }).saltSecret, 'from-file');
});

test('audit: a folder needs the vault, addresses and keys are checked, and without a folder there is none', () => {
  const mesh = { QUERN_GATEWAY_TOKENIZER: 'unix:///t', QUERN_GATEWAY_ENGINES: 'm=unix:///e' };
  const audited = {
    ...mesh,
    QUERN_AUDIT_OUTBOX_DIR: '/var/lib/quern/outbox',
    QUERN_AUDIT_KEY_DIR: '/var/lib/quern/keys',
  };
  const refused = (env: Record<string, string>, message: RegExp) =>
    assert.throws(() => readConfig({ ...audited, ...env }), { code: 'INVALID_ARGUMENT', message });
  assert.equal(readConfig({ ...mesh, QUERN_AUDIT_KEY_DIR: '/k' }).audit, null);
  assert.deepEqual(readConfig(audited).audit, {
    dir: '/var/lib/quern/outbox',
    keyDir: '/var/lib/quern/keys',
    content: null,
    nats: 'nats://127.0.0.1:4222',
    required: true,
    service: null,
    verifierKey: null,
  });
  assert.equal(readConfig({ ...audited, QUERN_AUDIT_REQUIRED: '0' }).audit?.required, false);
  refused({ QUERN_AUDIT_KEY_DIR: '' }, /QUERN_AUDIT_KEY_DIR: expected the folder of the vault/);
  refused(
    { QUERN_NATS_URL: 'http://user:secret@x' },
    /^(?!.*secret)[\s\S]*QUERN_NATS_URL: .*expected nats:\/\/HOST:PORT/,
  );
  refused({ QUERN_AUDIT_VERIFIER_KEY: 'quern+1+2' }, /QUERN_AUDIT_VERIFIER_KEY: .*expected Ed25519/);
  refused({ QUERN_AUDIT_ADDRESS: '127.0.0.1:50055' }, /QUERN_AUDIT_ADDRESS=127\.0\.0\.1:50055/);
});

test('origins are kept as browsers send them; what is no origin is refused with that item', () => {
  const mesh = { QUERN_GATEWAY_TOKENIZER: 'unix:///t', QUERN_GATEWAY_ENGINES: 'm=unix:///e' };
  const read = (origins: string) => readConfig({ ...mesh, QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS: origins }).allowedOrigins;
  const asSent: [string, string][] = [
    ['https://code.example:443', 'https://code.example'],
    ['http://localhost:80/', 'http://localhost'],
    ['HTTPS://Code.Example/', 'https://code.example'],
    ['https://code.example:8443', 'https://code.example:8443'],
    ['http://[0:0::1]:3000', 'http://[::1]:3000'],
    ['https://bücher.example', 'https://xn--bcher-kva.example'],
  ];
  for (const [written, sent] of asSent) assert.deepEqual([...read(written)], [sent], written);
  assert.deepEqual([...read('http://a.example , https://b.example')], ['http://a.example', 'https://b.example']);
  assert.deepEqual([...readConfig(mesh).allowedOrigins], []);
  const wrong = [
    '*',
    'code.example',
    'https://',
    'https://code.example/vscode',
    'https://a.example?x',
    'https://u@a.example',
  ];
  wrong.push(
    'ftp://a.example',
    'https://*.example',
    'https://a.example:99999',
    'https://a b',
    'null',
    'https://a.example,,',
  );
  for (const text of wrong) {
    assert.throws(() => read(text), {
      message:
        /QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS: expected up to 64 .*scheme:\/\/host\[:port\] without a path.*, got ".*"; /,
    });
  }
  const many = Array.from({ length: 65 }, (_, i) => `https://p${i}.example`).join();
  assert.throws(() => read(many), /got 65 of them/);
});
