// The command line at an audit service on TCP: who has the operators' token gets in, who has not hears how.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createMetrics } from '#kit/metrics.ts';
import { Ledger } from '../../../services/audit/ledger.ts';
import { startAudit } from '../../../services/audit/service.ts';
import { quern } from '../../e2e/mesh.ts';
import { makeLog } from '../../unit/kit/audit/support/log.ts';
import { log, ORIGIN } from './support/service.ts';
import { undo } from './support/undo.ts';

const TOKEN = 'a-token-of-the-mesh-0123456789abcdef';
const OPERATOR = 'a-token-of-operators-0123456789abcdef';

/** A service without a stream: it answers from the ledger that it has. */
async function setUp(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  const ledger = await Ledger.open({ dir: join(dir, 'audit', 'ledger') });
  await ledger.append(makeLog(30, (i) => (i % 2 === 0 ? { request_id: `r${i}`, target: 'quern-mini' } : {})));
  await ledger.close();
  const service = await startAudit({
    config: {
      listen: '127.0.0.1:0',
      coverage: null,
      nats: 'nats://127.0.0.1:1',
      dir: join(dir, 'audit'),
      keyDir: join(dir, 'keys'),
      signingKeyDir: null,
      contentDir: null,
      origin: ORIGIN,
      witnesses: [],
      retentionDays: 36_500,
      streamBytes: 1024 * 1024,
      metricsListen: null,
      drainGraceMs: 100,
      internal: { token: TOKEN, tls: null },
      operatorToken: OPERATOR,
      logLevel: 'silent',
    },
    log,
    metrics: createMetrics('audit'),
  });
  undo(t, () => service.close());
  const env = { QUERN_AUDIT_OPERATOR_TOKEN: OPERATOR, QUERN_STATE_DIR: dir };
  const audit = (args: string[], over: NodeJS.ProcessEnv = {}) =>
    quern(['audit', ...args, '--address', service.address], { env: { ...env, ...over } });
  return { dir, audit };
}

test('with the token of its operators the log is read over TCP; without it the refusal says which variable', async (t) => {
  const { dir, audit } = await setUp(t);
  const head = await audit(['head']);
  assert.equal(head.code, 0, head.stderr);
  assert.match(head.stdout, /^records {5}30\n/);
  assert.match(head.stdout, /^stream {6}not read: /m);
  const refused = await audit(['head'], { QUERN_AUDIT_OPERATOR_TOKEN: '' });
  assert.equal(refused.code, 1);
  const asService = { QUERN_AUDIT_OPERATOR_TOKEN: '', QUERN_INTERNAL_TOKEN: TOKEN };
  assert.equal((await audit(['head'], asService)).code, 0, 'heads are hashes');
  for (const [args, words] of [
    [['query'], 'reading'],
    [['tail'], 'reading'],
    [['verify'], 'reading'],
    [['export', '--out', join(dir, 'x.jsonl')], 'exporting'],
    [['export', '--format', 'csv', '--out', join(dir, 'x.csv')], 'exporting'],
    [['erase', '--user', 'ada', '--yes'], 'erasing in'],
  ] as const) {
    const { code, stderr } = await audit([...args], asService);
    assert.equal(code, 1, args[0]);
    assert.match(
      stderr,
      new RegExp(`^quern: ${words} the audit log needs the token of its operators, and this call came as service:mesh`),
    );
  }
  assert.match(
    refused.stderr,
    /expected 'authorization: Bearer <shared token>', got none.*\(QUERN_AUDIT_OPERATOR_TOKEN or/,
  );
});

test('exports in every form, and what was exported verifies', async (t) => {
  const { dir, audit } = await setUp(t);
  const [jsonl, csv, classic] = ['log.jsonl', 'log.csv', 'log.txt'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  for (const [format, file] of Object.entries({ jsonl, csv, classic })) {
    const { code, stderr } = await audit([
      'export',
      '--format',
      format,
      '--out',
      file,
      ...(format === 'jsonl' ? [] : ['--tenant', 't']),
    ]);
    assert.equal(code, 0, stderr);
  }
  const verified = await audit(['verify', jsonl, '--json']);
  const { verdict, records, covered } = JSON.parse(verified.stdout) as Record<string, unknown>;
  assert.deepEqual([verdict, records, covered], ['ok', 30, 30], 'all of a fresh export is signed');
  const note = join(dir, 'note');
  await writeFile(note, (await audit(['head', '--note'])).stdout);
  const { verifierKey } = JSON.parse((await audit(['head', '--json'])).stdout) as { verifierKey: string };
  for (const trust of [
    ['--trusted-checkpoint', note],
    ['--key', verifierKey],
    ['--key', verifierKey, '--trusted-checkpoint', note],
  ]) {
    const { code, stdout } = await audit(['verify', jsonl, ...trust]);
    assert.deepEqual([code, stdout], [0, 'ok: 30 records, 30 of them signed\n'], trust[0]);
  }
  const lines = (await readFile(csv, 'utf8')).trimEnd().split('\r\n');
  assert.equal(lines.length, 16, 'a header and 15 requests');
  assert.match(lines[1] ?? '', /^2026-01-01T00:00:00\.000Z,,t,,ada,,,quern-mini,/);
  assert.equal((await readFile(classic, 'utf8')).split('\n')[0], '[2026-01-01T00:00:00.000Z] [-] [-] [-] [-] [-]');
  const online = await audit(['verify', '--json']);
  assert.equal((JSON.parse(online.stdout) as { verdict: string }).verdict, 'ok');
});

test('who is not known cannot be erased', async (t) => {
  const { audit } = await setUp(t);
  const { code, stderr } = await audit(['erase', '--tenant', 't', '--user', 'ada', '--yes']);
  assert.equal(code, 1, 'the records of this ledger have a pseudonym that no vault knows');
  assert.match(stderr, /^quern: no user "ada" of tenant "t" is known: never recorded, or erased before\n$/);
});

test('the folder of a log is verified without its service: by its own key here, by a given one elsewhere', async (t) => {
  const { dir, audit } = await setUp(t);
  const { verifierKey } = JSON.parse((await audit(['head', '--json'])).stdout) as { verifierKey: string };
  await audit(['export', '--out', join(dir, 'log.jsonl')]); // signs
  const folder = join(dir, 'audit');
  const here = await audit(['verify', folder], { QUERN_AUDIT_KEY_DIR: join(dir, 'keys') });
  assert.equal(here.code, 0, here.stderr);
  assert.match(here.stdout, /^ok: \d+ records, \d+ of them signed\nChecked with quern\.test\/audit\+/);
  const elsewhere = await audit(['verify', folder, '--key', verifierKey, '--json']);
  assert.equal((JSON.parse(elsewhere.stdout) as { verdict: string }).verdict, 'ok', elsewhere.stderr);
  const without = await audit(['verify', folder]);
  assert.match(without.stderr, /^quern: --key: expected the public key line of the log/);
  const [segment = ''] = await readdir(join(folder, 'ledger', 'records'));
  const path = join(folder, 'ledger', 'records', segment);
  const bytes = await readFile(path);
  bytes[bytes.indexOf('quern-mini')]! ^= 1;
  await writeFile(path, bytes);
  const changed = await audit(['verify', folder, '--key', verifierKey]);
  assert.equal(changed.code, 1);
  assert.match(changed.stdout, /^altered at record 0: 0{16}\.qal has changed at byte 0\n/);
});
