import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { Vault } from '#kit/audit/vault.ts';

const key = randomBytes(32);
const ada = { tenant: 't', kind: 'user', id: 'ada@example.com' } as const;
const bob = { tenant: 't', kind: 'user', id: 'bob@example.com' } as const;

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function open(t: TestContext, dir: string): Vault {
  const vault = Vault.open(join(dir, 'vault.sqlite'), key);
  t.after(() => vault.close());
  return vault;
}

test('a subject keeps its pseudonym over processes and restarts; the pseudonym is random', async (t) => {
  const dir = await folder(t);
  const [one, two] = [open(t, dir), open(t, dir)];
  const { ref } = one.subject(ada);
  assert.match(ref, /^[0-9a-f]{32}$/);
  assert.equal(two.subject(ada).ref, ref);
  assert.notEqual(one.subject(bob).ref, ref);
  assert.notEqual(one.subject({ ...ada, tenant: 'u' }).ref, ref);
  assert.notEqual(one.subject({ ...ada, kind: 'api_key' }).ref, ref);
  assert.notEqual(open(t, await folder(t)).subject(ada).ref, ref);
  assert.deepEqual(two.reveal('t', ref), ada);
  assert.equal(two.reveal('u', ref), null, 'only inside its tenant');
  assert.equal(one.find(ada), ref);
  assert.equal(one.find({ ...ada, id: 'nobody' }), null);
});

test('digests and sealed facts are of one subject; another cannot read or make them', async (t) => {
  const vault = open(t, await folder(t));
  const [a, b] = [vault.subject(ada), vault.subject(bob)];
  const content = Buffer.from('def f(): pass');
  assert.equal(a.mac(content), vault.subject(ada).mac(content));
  assert.notEqual(a.mac(content), b.mac(content));
  const facts = { ip: '192.0.2.7', key_id: 'k1' };
  const sealed = a.seal(facts);
  assert.ok(!Buffer.from(sealed, 'base64').includes('192.0.2.7'));
  assert.notEqual(sealed, a.seal(facts), 'equal facts do not look equal');
  assert.deepEqual(vault.unseal('t', a.ref, sealed), facts);
  assert.equal(vault.unseal('t', b.ref, sealed), null);
  assert.equal(
    vault.unseal(
      't',
      a.ref,
      sealed.replace(/^./, (c) => (c === 'A' ? 'B' : 'A')),
    ),
    null,
  );
  assert.equal(vault.unseal('t', a.ref, ''), null);
});

test('erasing one user leaves the other readable, in every process at once, and nothing of the key on disk', async (t) => {
  const dir = await folder(t);
  const [one, two] = [open(t, dir), open(t, dir)];
  const [a, b] = [one.subject(ada), one.subject(bob)];
  const [sealedA, sealedB] = [a.seal({ ip: '192.0.2.7' }), b.seal({ ip: '192.0.2.8' })];
  const raw = new DatabaseSync(join(dir, 'vault.sqlite'));
  const { wrapped } = raw.prepare('SELECT wrapped FROM subjects WHERE ref = ?').get(a.ref) as { wrapped: Uint8Array };
  raw.close();
  assert.equal(two.subject(ada).ref, a.ref);
  assert.equal(two.erase(ada), a.ref);
  assert.equal(two.erase(ada), null);
  for (const vault of [one, two]) {
    assert.equal(vault.reveal('t', a.ref), null);
    assert.equal(vault.unseal('t', a.ref, sealedA), null);
    assert.deepEqual(vault.unseal('t', b.ref, sealedB), { ip: '192.0.2.8' });
  }
  for (const name of await readdir(dir)) {
    const bytes = await readFile(join(dir, name));
    assert.ok(!bytes.includes(Buffer.from(wrapped)), `${name} still holds the wrapped key`);
    assert.ok(!bytes.includes(a.ref), `${name} still holds the pseudonym`);
    assert.ok(!bytes.includes(ada.id), `${name} still holds the id`);
  }
  assert.notEqual(one.subject(ada).ref, a.ref, 'who comes back is somebody new');
});

test('erasing a tenant erases its users and no others', async (t) => {
  const vault = open(t, await folder(t));
  const [a, other] = [vault.subject(ada), vault.subject({ ...ada, tenant: 'u' })];
  vault.eraseTenant('t');
  assert.equal(vault.reveal('t', a.ref), null);
  assert.deepEqual(vault.reveal('u', other.ref), { ...ada, tenant: 'u' });
  assert.notEqual(vault.subject(ada).ref, a.ref);
});

test('another key, or one of another length, is refused with what to do', async (t) => {
  const dir = await folder(t);
  open(t, dir).subject(ada);
  assert.throws(() => Vault.open(join(dir, 'vault.sqlite'), randomBytes(32)), {
    code: 'FAILED_PRECONDITION',
    message: /was made with another vault key; give the key file that belongs to it/,
  });
  assert.throws(() => Vault.open(join(dir, 'vault.sqlite'), randomBytes(16)), { code: 'INVALID_ARGUMENT' });
});

test('a vault that another process has to itself for a moment is waited for', async (t) => {
  const dir = await folder(t);
  const path = join(dir, 'vault.sqlite');
  const first = Vault.open(path, key);
  const { ref } = first.subject(ada);
  first.close();
  const holder = `
    const database = new (require('node:sqlite').DatabaseSync)(${JSON.stringify(path)});
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM tenants WHERE 0;');
    process.stdout.write('held');
    setTimeout(() => { database.exec('COMMIT'); database.close(); }, 300);`;
  const child = spawn(process.execPath, ['-e', holder], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.equal(open(t, dir).find(ada), ref);
});
