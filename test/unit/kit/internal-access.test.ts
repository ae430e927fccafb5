import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readEnv } from '#kit/env.ts';
import { QuernError } from '#kit/errors.ts';
import { channelAccess, internalEnv, internalProblems, serverAccess, takeInternal } from '#kit/internal-access.ts';
import { mesh, meshTlsEnv, tlsFile } from '../../fixtures/tls/certificates.ts';

const read = (env: NodeJS.ProcessEnv, ...addresses: string[]) =>
  takeInternal(
    readEnv(env, internalEnv, {
      check: (given) =>
        internalProblems(
          given,
          addresses.map((address) => ({ name: 'LISTEN', address })),
        ),
    }),
  ).internal;

/** The variables that are named, sorted, and the whole message. */
function refusal(env: NodeJS.ProcessEnv, ...addresses: string[]): { fields: string[]; message: string } {
  try {
    read(env, ...addresses);
  } catch (error) {
    assert.ok(error instanceof QuernError);
    assert.equal(error.details.reason, 'CONFIG_INVALID');
    return { fields: (error.details.fields ?? []).map(({ field }) => field).sort(), message: error.message };
  }
  throw new assert.AssertionError({ message: 'accepted' });
}

test('a unix socket needs nothing; TCP needs a token or mutual TLS, loopback too', () => {
  assert.deepEqual(read({}, 'unix:///run/quern/e.sock'), { token: null, tls: null });
  for (const address of ['127.0.0.1:50053', 'localhost:0', '[::1]:1', '0.0.0.0:50053', 'engine.internal:50053']) {
    const { fields, message } = refusal({}, 'unix:///run/quern/e.sock', address);
    assert.deepEqual(fields, ['QUERN_INTERNAL_TOKEN']);
    assert.ok(
      message.includes(
        `QUERN_INTERNAL_TOKEN: expected a shared token or mutual TLS between services on TCP (LISTEN=${address}), ` +
          'got neither; set QUERN_INTERNAL_TOKEN or QUERN_INTERNAL_TOKEN_FILE, or QUERN_INTERNAL_TLS_CERT_FILE, ' +
          '_KEY_FILE and _CA_FILE, or use unix:///path',
      ),
      message,
    );
    assert.equal(read({ QUERN_INTERNAL_TOKEN: 's3cret' }, address).token, 's3cret');
    assert.equal(read(meshTlsEnv('server'), address).tls?.cert, mesh.server.cert);
  }
});

test('an address that is none is named', () => {
  const { fields, message } = refusal({}, 'nonsense');
  assert.deepEqual(fields, ['LISTEN']);
  assert.match(message, /LISTEN: address: expected unix:\/\/\/path or host:port .* got "nonsense"; correct it/);
});

test('mutual TLS needs all three files', () => {
  const all = meshTlsEnv('server');
  for (const missing of Object.keys(all)) {
    const { [missing]: _, ...rest } = all;
    assert.deepEqual(refusal(rest, '127.0.0.1:1').fields, [missing]);
  }
});

test('all mistakes at once, and a variable with a mistake counts as set', () => {
  const { fields } = refusal(
    {
      QUERN_INTERNAL_TOKEN: 'two words',
      QUERN_INTERNAL_TOKEN_FILE: '/nowhere',
      QUERN_INTERNAL_TLS_CERT_FILE: '/nowhere',
      QUERN_INTERNAL_TLS_KEY_FILE: tlsFile('ca.pem'),
      QUERN_INTERNAL_TLS_SERVER_NAME: 'no spaces please',
    },
    '127.0.0.1:1',
  );
  assert.deepEqual(fields, [
    'QUERN_INTERNAL_TLS_CA_FILE',
    'QUERN_INTERNAL_TLS_CERT_FILE',
    'QUERN_INTERNAL_TLS_KEY_FILE',
    'QUERN_INTERNAL_TLS_SERVER_NAME',
    'QUERN_INTERNAL_TOKEN',
    'QUERN_INTERNAL_TOKEN_FILE',
  ]);
  assert.deepEqual(refusal({ QUERN_INTERNAL_TOKEN_FILE: '/nowhere' }, '127.0.0.1:1').fields, [
    'QUERN_INTERNAL_TOKEN_FILE',
  ]);
});

test('a key of another certificate and a name to check nothing by are refused', () => {
  const mixed = { ...meshTlsEnv('server'), QUERN_INTERNAL_TLS_KEY_FILE: tlsFile('gateway.key') };
  assert.match(refusal(mixed).message, /QUERN_INTERNAL_TLS_KEY_FILE: expected the private key of .*server\.pem/);
  assert.match(
    refusal({ QUERN_INTERNAL_TLS_SERVER_NAME: 'engine' }).message,
    /QUERN_INTERNAL_TLS_SERVER_NAME: expected certificates to check for "engine", got none/,
  );
});

test('a refusal never shows the token', () => {
  const { message } = refusal({ QUERN_INTERNAL_TOKEN: 'very secret' }, '127.0.0.1:1');
  assert.match(message, /QUERN_INTERNAL_TOKEN: expected printable ASCII without spaces, got a value that does not fit/);
  assert.doesNotMatch(message, /very/);
});

test('servers demand, clients send', () => {
  const env = { ...meshTlsEnv('gateway'), QUERN_INTERNAL_TOKEN: 't', QUERN_INTERNAL_TLS_SERVER_NAME: 'server.test' };
  const both = read(env);
  const own = { ...mesh.gateway, ca: mesh.ca };
  assert.deepEqual(serverAccess(both), { sharedToken: 't', tls: { ...own, requireClientCert: true } });
  assert.deepEqual(channelAccess(both), { sharedToken: 't', tls: { ...own, serverName: 'server.test' } });
  assert.deepEqual([serverAccess(read({})), channelAccess(read({}))], [{}, {}]);
  assert.deepEqual(channelAccess(read(meshTlsEnv('gateway'))).tls, own);
});
