// What the gateway records of itself: who failed to come in, keys, models, its start and end.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openVault } from '#kit/audit/key-folder.ts';
import type { AuditRecord } from '#kit/audit/record.ts';
import { QuernError } from '#kit/errors.ts';
import { createKey, revokeKey } from '#kit/keys-file.ts';
import { unary } from '#kit/rpc/client.ts';
import { assertPaired, named, recordsIn } from './fakes/audit-records.ts';
import { audited, code, completeRequest, post } from './fakes/audited-mesh.ts';
import { eventually, startMesh } from './fakes/mesh.ts';

const WINDOW_MS = 300;

test('a flood of failed authentications makes few records; keys that come and go are told', async (t) => {
  const { dir, keys, first } = await keysFile(t);
  const mesh = await startMesh(t, { env: { QUERN_KEYS_FILE: keys }, audit: () => ({ authWindowMs: WINDOW_MS }) });
  const outbox = join(mesh.folder, 'outbox');
  const ask = (token: string) =>
    post(mesh, '/generate', { prompt: 'x', max_length: 1 }, { authorization: `Bearer ${token}` });
  assert.ok(dir !== '');
  assert.equal((await ask(first.token)).status, 200);
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: 40 }, () => ask('qk_0123456789ab_wrong')));
  assert.equal(await code(unary(mesh.completion, 'complete', completeRequest())), 'UNAUTHENTICATED');
  const failures = async () => named(await recordsIn(outbox), 'auth.failed');
  const attempts = async () => (await failures()).reduce((sum, { usage }) => sum + (usage?.attempts ?? 0), 0);
  await eventually(async () => (await attempts()) === 41, 'all failures are counted');
  const told = await failures();
  const windows = (performance.now() - startedMs) / WINDOW_MS;
  assert.ok(told.length <= 2 + windows && told.length < 41, `${told.length} records of 41 failures`);
  assert.deepEqual([told[0]?.outcome, told[0]?.code], ['denied', 'UNAUTHENTICATED']);
  const vault = await openVault(join(mesh.folder, 'keys'));
  t.after(() => vault.close());
  const facts = vault.unseal('_system', told.at(-1)?.actor.ref ?? '', told.at(-1)?.sealed ?? '');
  const clients = (facts?.clients ?? {}) as Record<string, number>;
  assert.ok((clients['127.0.0.1'] ?? 0) > 0);
  // A key is made, another revoked, and what a third may do is changed: told when the file is read again.
  const second = await createKey(keys, { tenant: 'acme', user: 'bob' });
  await revokeKey(keys, first.key.id);
  await eventually(async () => (await ask(first.token)).status === 401, 'the revoked key is refused');
  const changed = JSON.parse(await readFile(keys, 'utf8')) as { keys: { id: string; role: string }[] };
  for (const key of changed.keys) if (key.id === second.key.id) key.role = 'admin';
  await sleep(600);
  await writeFile(keys, JSON.stringify(changed));
  await eventually(async () => {
    await ask(second.token);
    return named(await recordsIn(outbox), 'policy.changed').length === 1;
  }, 'the change of a key is told');
  const records = await recordsIn(outbox);
  const targets = (action: AuditRecord['action']) =>
    named(records, action).map(({ tenant, target }) => `${tenant} ${target}`);
  assert.deepEqual(targets('key.created'), [`acme ${second.key.id}`]);
  assert.deepEqual(targets('key.revoked'), [`acme ${first.key.id}`]);
  assert.deepEqual(targets('policy.changed'), [`acme ${second.key.id}`]);
  assertPaired(records);
});

async function keysFile(t: TestContext) {
  const { mkdtemp, rm } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const dir = await mkdtemp(join(tmpdir(), 'quern-keys-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const keys = join(dir, 'keys.json');
  return { dir, keys, first: await createKey(keys, { tenant: 'acme', user: 'ada' }) };
}

test('each instance of an engine tells its model once, and so does a refusal', async (t) => {
  const mesh = await audited(t);
  const outbox = join(mesh.folder, 'outbox');
  const told = async (): Promise<AuditRecord[]> =>
    (await recordsIn(outbox)).filter(({ action }) => action === 'model.loaded' || action === 'model.rejected');
  await eventually(async () => (await told()).length === 1, 'the model is told');
  const [first] = await told();
  assert.deepEqual([first?.tenant, first?.actor.kind, first?.target], ['_system', 'service', 'mock']);
  assert.deepEqual([first?.model_sha, first?.usage], ['0'.repeat(32), { context_length: 4096 }]);
  const ready = (): boolean =>
    mesh.gateway.context.models.all().every((model) => mesh.gateway.context.models.ready(model));
  mesh.engine.breakSessions(); // the same instance: nothing new
  await eventually(() => !ready(), 'the Session is broken');
  await eventually(ready, 'the Session is open again');
  const refusal = (message: string): QuernError =>
    new QuernError('INVALID_ARGUMENT', message, { reason: 'MODEL_REJECTED' });
  const refusing = await mesh.restartEngine(0, { rejects: refusal('no such dtype') });
  const rejected = async (): Promise<number> => named(await told(), 'model.rejected').length;
  await eventually(async () => (await rejected()) === 1, 'the refusal is told');
  await sleep(400); // it is asked again, and says the same
  assert.equal(await rejected(), 1);
  refusing.settings.rejects = refusal('another reason');
  await eventually(async () => (await rejected()) === 2, 'the other refusal is told');
  await mesh.restartEngine(0);
  await eventually(async () => (await told()).length === 4, 'the new instance is told');
  const all = await told();
  assert.deepEqual(
    all.map(({ action, outcome, code = '', reason = '' }) => [action, outcome, code, reason].join(' ').trim()),
    [
      'model.loaded ok',
      'model.rejected error INVALID_ARGUMENT MODEL_REJECTED',
      'model.rejected error INVALID_ARGUMENT MODEL_REJECTED',
      'model.loaded ok',
    ],
  );
});

test('it says goodbye, and health tells of the outbox', async (t) => {
  const mesh = await audited(t);
  const health = (await (await fetch(`${mesh.url}/health`)).json()) as { audit: Record<string, unknown> };
  assert.deepEqual(Object.keys(health.audit), ['outbox', 'stream', 'unsent_records']);
  assert.equal(health.audit.outbox, 'open');
  const outbox = async () => (await recordsIn(join(mesh.folder, 'outbox'))).length;
  await eventually(async () => (await outbox()) === 2, 'the service and the model are told');
  const metrics = await (await fetch(`${mesh.url}/metrics`)).text();
  assert.match(metrics, /quern_audit_outbox_unsent_records\{[^}]*\} 2/);
  assert.match(metrics, /quern_audit_appended_records_total\{[^}]*action="service.started"[^}]*\} 1/);
  await post(mesh, '/generate', { prompt: 'x', max_length: 2 });
  await mesh.gateway.close();
  const records = await recordsIn(join(mesh.folder, 'outbox'));
  assert.equal(records.at(-1)?.action, 'service.drained');
  assertPaired(records);
});
