import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readConfig, targetFrom } from '../../../../clients/lsp/config.ts';

const base = { address: '127.0.0.1:50051', apiKey: null, ca: null };

test('the environment says where the mesh is; what cannot be is refused, a key without its text', () => {
  assert.deepEqual(readConfig({}), base);
  const env = { QUERN_GATEWAY: 'https://mesh.example:443', QUERN_API_KEY: 'qk-1' };
  assert.deepEqual(readConfig(env), { address: 'https://mesh.example:443', apiKey: 'qk-1', ca: null });
  assert.throws(() => readConfig({ QUERN_GATEWAY: 'a b' }), /QUERN_GATEWAY: expected host:port, .*, got "a b"/);
  const secret = (error: Error): boolean =>
    /QUERN_API_KEY: expected/.test(error.message) && !/qk-1/.test(error.message);
  assert.throws(() => readConfig({ QUERN_API_KEY: 'qk-1\n' }), secret);
});

test('settings go before the environment, and what cannot be leaves what was in force', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-lsp-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const kept = { address: 'mesh:1', apiKey: 'qk-2', ca: 'ca' };
  const target = (given: unknown) => targetFrom(given, base, kept);
  assert.deepEqual(target({}), { target: base, problems: [] }, 'taken back');
  for (const gateway of ['h:1', 'https://h:1', 'http://h:1/', 'unix:///a b', 'dns:///h:1'])
    assert.deepEqual(target({ gateway }), { target: { ...base, address: gateway }, problems: [] }, gateway);
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, 'no certificate');
  const gone = join(folder, 'gone.pem');
  for (const [given, problem] of [
    [{ gateway: 5 }, 'gateway: expected host:port, https://host:port or unix:///path, got 5; it stays mesh:1'],
    [
      { gateway: 'https://' },
      'gateway: expected host:port, https://host:port or unix:///path, got "https://"; it stays mesh:1',
    ],
    [{ apiKey: 5 }, 'apiKey: expected a text of ASCII characters, got a number; it stays as it was'],
    [{ apiKey: 'qk-1\n' }, 'apiKey: expected a text of ASCII characters, got a text with others; it stays as it was'],
    [
      { caFile },
      `caFile: expected a PEM file of CAs, got ${caFile}, in which no certificate begins; it stays as it was`,
    ],
    [
      { caFile: gone },
      `caFile: expected a PEM file of CAs, got ${gone}, which cannot be read (ENOENT); it stays as it was`,
    ],
    [{ caFile: true }, 'caFile: expected the path of a PEM file of CAs, got true; it stays as it was'],
  ] as const) {
    const name = Object.keys(given)[0] === 'gateway' ? 'address' : Object.keys(given)[0] === 'caFile' ? 'ca' : 'apiKey';
    assert.deepEqual(target(given), { target: { ...base, [name]: kept[name] }, problems: [problem] });
  }
  writeFileSync(caFile, '-----BEGIN CERTIFICATE-----\n');
  assert.deepEqual(target({ caFile }).target.ca, '-----BEGIN CERTIFICATE-----\n');
});
