import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readEnv } from '#kit/env.ts';
import {
  caFile,
  certificateFile,
  incompleteProblems,
  type PemFile,
  pairProblems,
  privateKeyFile,
  secretFile,
} from '#kit/env-files.ts';
import { mesh, stranger, tlsFile } from '../../fixtures/tls/certificates.ts';

const spec = {
  secret: secretFile('QUERN_T_SECRET_FILE', { doc: 'secret' }),
  token: secretFile('QUERN_T_TOKEN_FILE', { doc: 'token', isToken: true }),
  cert: certificateFile('QUERN_T_CERT_FILE', { doc: 'certificate' }),
  key: privateKeyFile('QUERN_T_KEY_FILE', { doc: 'key' }),
  ca: caFile('QUERN_T_CA_FILE', { doc: 'CA' }),
};

function folderOf(t: TestContext, files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'quern-env-files-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

const file = (name: string): PemFile => readEnv({ QUERN_T_CERT_FILE: tlsFile(name) }, spec).cert!;
const key = (name: string): PemFile => readEnv({ QUERN_T_KEY_FILE: tlsFile(name) }, spec).key!;

test('files are read, absent ones are null', (t) => {
  const folder = folderOf(t, { token: '  s3cret\n', secret: 'a long phrase\n' });
  const values = readEnv(
    {
      QUERN_T_TOKEN_FILE: join(folder, 'token'),
      QUERN_T_SECRET_FILE: join(folder, 'secret'),
      QUERN_T_CERT_FILE: tlsFile('server.pem'),
      QUERN_T_KEY_FILE: tlsFile('server.key'),
    },
    spec,
  );
  assert.deepEqual([values.token, values.secret], [{ secret: 's3cret' }, { secret: 'a long phrase' }]);
  assert.equal(values.cert?.pem, mesh.server.cert);
  assert.equal(values.key?.path, tlsFile('server.key'));
  assert.equal(values.ca, null);
});

test('every file that cannot be used is named at once, with what it is', (t) => {
  const damaged = mesh.server.cert.replace(/[A-Za-z]{20}/, 'A'.repeat(20));
  const folder = folderOf(t, { empty: '\n', 'two words': 'a b', umlaut: 'schlüssel', damaged });
  const refused = (env: NodeJS.ProcessEnv, ...lines: RegExp[]): void => {
    assert.throws(
      () => readEnv(env, spec),
      (error: Error) => {
        for (const line of lines) assert.match(error.message, line);
        assert.match(error.message, new RegExp(`^${lines.length} mistake`));
        return true;
      },
    );
  };
  refused(
    {
      QUERN_T_TOKEN_FILE: join(folder, 'empty'),
      QUERN_T_CERT_FILE: join(folder, 'missing'),
      QUERN_T_KEY_FILE: tlsFile('encrypted.key'),
      QUERN_T_CA_FILE: tlsFile('server.key'),
    },
    /QUERN_T_TOKEN_FILE: expected a readable file with a token of .*, got .*empty, which is empty; correct it/,
    /QUERN_T_CERT_FILE: expected .* PEM certificate, got .*missing, which cannot be read \(ENOENT\)/,
    /QUERN_T_KEY_FILE: expected .* unencrypted PEM private key, got .*encrypted\.key, whose key is encrypted/,
    /QUERN_T_CA_FILE: expected .* PEM certificates of CAs, got .*server\.key, which holds none/,
  );
  refused(
    {
      QUERN_T_TOKEN_FILE: join(folder, 'two words'),
      QUERN_T_CERT_FILE: join(folder, 'damaged'),
      QUERN_T_KEY_FILE: tlsFile('server.pem'),
      QUERN_T_CA_FILE: folder,
    },
    /QUERN_T_TOKEN_FILE: .*which holds other characters/,
    /QUERN_T_CERT_FILE: .*which holds a damaged certificate/,
    /QUERN_T_KEY_FILE: .*which holds none/,
    /QUERN_T_CA_FILE: .*which cannot be read \(EISDIR\)/,
  );
  refused({ QUERN_T_TOKEN_FILE: join(folder, 'umlaut') }, /which holds other characters/);
});

test('an expired certificate is refused, an expired CA beside a valid one is not', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.UTC(2121, 0) });
  const env = { QUERN_T_CERT_FILE: tlsFile('server.pem'), QUERN_T_CA_FILE: tlsFile('ca.pem') };
  assert.throws(
    () => readEnv(env, spec),
    /2 mistakes.*\n.*CERT_FILE: .*which expired on 2120-01-01T00:00:00.000Z.*\n.*CA_FILE: .*which expired on/,
  );
});

test('a key of another certificate is one sentence', () => {
  assert.deepEqual(pairProblems('KEY', { cert: file('server.pem'), key: key('server.key') }), []);
  assert.deepEqual(pairProblems('KEY', { cert: file('server.pem'), key: null }), []);
  assert.deepEqual(pairProblems('KEY', { cert: undefined, key: key('server.key') }), []);
  const [problem, ...more] = pairProblems('KEY', { cert: file('server.pem'), key: key('gateway.key') });
  assert.match(
    problem!,
    /^KEY: expected the private key of .*server\.pem, got another one in .*gateway\.key; set the files of one pair$/,
  );
  assert.deepEqual(more, []);
});

test('a chain pairs by its first certificate', (t) => {
  const folder = folderOf(t, { chain: mesh.server.cert + mesh.ca, wrong: stranger.ca + mesh.server.cert });
  const read = (name: string) => readEnv({ QUERN_T_CERT_FILE: join(folder, name) }, spec).cert!;
  assert.deepEqual(pairProblems('KEY', { cert: read('chain'), key: key('server.key') }), []);
  assert.match(pairProblems('KEY', { cert: read('wrong'), key: key('server.key') })[0]!, /another one/);
});

test('files that belong together: each that lacks is named', () => {
  const pem = { path: '/x', pem: '' };
  assert.deepEqual(incompleteProblems({ A: null, B: null }), []);
  assert.deepEqual(incompleteProblems({ A: pem, B: undefined }), []);
  assert.deepEqual(incompleteProblems({ A: pem, B: null, C: pem }), [
    'B: expected a file beside A and C, but it is not set; set it, or remove A and C',
  ]);
});
