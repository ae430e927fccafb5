import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseContentPolicy, readContentPolicy } from '#kit/audit/content-policy.ts';
import { QuernError } from '#kit/errors.ts';

const acme = { prompts: true, responses: false, max_bytes: 4096, redact: true };
const file = (tenants: unknown, version: unknown = 1): string => JSON.stringify({ version, tenants });

test('a tenant has what its entry says; one without an entry has none', () => {
  const policies = parseContentPolicy(file({ acme, other: { ...acme, responses: true } }), 'p.json');
  const { sha, ...settings } = policies.get('acme') ?? { sha: '' };
  assert.deepEqual(settings, acme);
  assert.match(sha, /^[0-9a-f]{64}$/);
  assert.notEqual(policies.get('other')?.sha, sha, 'other settings, other digest');
  assert.equal(policies.get('nobody'), undefined);
  assert.equal(parseContentPolicy(file({ x: acme }), 'p.json').get('x')?.sha, sha, 'equal settings, equal digest');
  assert.equal(parseContentPolicy(file({ __proto__: null }), 'p.json').size, 0);
});

test('a file that is not right is refused with its place', () => {
  const cases: [string, RegExp][] = [
    ['{', /p\.json: expected JSON \{"version": 1, "tenants"/],
    ['[]', /the file: expected an object, got an array/],
    [file({ acme }, 2), /version: /],
    [file([acme]), /tenants: expected an object, got an array/],
    [file({ acme: { ...acme, prompts: 'yes' } }), /tenants\.acme\.prompts: expected true or false, got a string/],
    [file({ acme: { ...acme, max_bytes: 1.5 } }), /tenants\.acme\.max_bytes: expected a whole number, got 1\.5/],
    [file({ acme: { ...acme, max_bytes: 10 } }), /tenants\.acme\.max_bytes: expected a number of at least 256, got 10/],
    [file({ acme: { ...acme, max_bytes: 2 ** 21 } }), /tenants\.acme\.max_bytes: expected a number of at most 1048576/],
    [
      file({ acme: { ...acme, redact: false } }),
      /tenants\.acme\.redact: expected true: content is never kept unredacted/,
    ],
    [file({ acme: { prompts: true, responses: true, max_bytes: 4096 } }), /tenants\.acme\.redact: expected true/],
    [file({ acme: { ...acme, keep: 1 } }), /tenants\.acme: .*keep/],
    [file({ 'a b': acme }), /tenants: expected names as in the keys file, got "a b"/],
  ];
  for (const [text, message] of cases) {
    assert.throws(
      () => parseContentPolicy(text, 'p.json'),
      (error: QuernError) => {
        assert.ok(error instanceof QuernError && error.code === 'INVALID_ARGUMENT');
        assert.equal(error.details.reason, 'AUDIT_CONTENT_POLICY_INVALID');
        assert.match(error.message, message, text);
        return true;
      },
    );
  }
});

test('all mistakes of a file are told at once, as many as one message holds', () => {
  const text = file({ acme: { ...acme, prompts: 1, max_bytes: 10 }, 'a b': acme }, 2);
  const message = (refused: string): string => {
    try {
      parseContentPolicy(refused, 'p.json');
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  const lines = message(text).split('\n');
  assert.equal(lines[0], 'p.json: 4 mistakes:');
  for (const [i, start] of ['version', 'tenants.acme.prompts', 'tenants.acme.max_bytes', 'tenants'].entries()) {
    assert.ok(lines[i + 1]?.startsWith(`  ${start}: expected `), lines[i + 1]);
  }
  assert.match(lines[5] ?? '', /^expected JSON /);
  const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`t${i}`, { ...acme, max_bytes: 1 }]));
  assert.match(message(file(many)), /^p\.json: 500 mistakes:\n(?: {2}.*\n){20} {2}and 480 more\n/);
});

test('a file is read, and a missing one is told', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'p.json'), file({ acme }));
  assert.equal((await readContentPolicy(join(dir, 'p.json'))).size, 1);
  await assert.rejects(readContentPolicy(join(dir, 'q.json')), {
    code: 'FAILED_PRECONDITION',
    message: /q\.json: .*ENOENT/,
  });
});
