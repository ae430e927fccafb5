// The text of prompts and answers is kept for the tenants whose policy says so: redacted, encrypted, named by the records.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readContent } from '#kit/audit/content-frame.ts';
import { openVault } from '#kit/audit/key-folder.ts';
import type { AuditAction, AuditRecord } from '#kit/audit/record.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import { named, recordsIn } from './fakes/audit-records.ts';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';

const SECRET = 'zoe.keller@acme-intern.dev';

function policyFor(tenants: Record<string, { prompts: boolean; responses: boolean }>): string {
  const whole = Object.entries(tenants).map(([name, kinds]) => [name, { ...kinds, max_bytes: 4096, redact: true }]);
  return JSON.stringify({ version: 1, tenants: Object.fromEntries(whole) });
}

function meshWith(t: TestContext, policy: string): Promise<TestMesh> {
  return startMesh(t, {
    audit: () => ({}),
    env: (folder) => {
      const policyFile = join(folder, 'policy.json');
      writeFileSync(policyFile, policy);
      return { QUERN_AUDIT_CONTENT_DIR: join(folder, 'content'), QUERN_AUDIT_CONTENT_POLICY: policyFile };
    },
  });
}

async function complete(mesh: TestMesh, prompt: string): Promise<{ status: number; text: string }> {
  const body = JSON.stringify({ prompt, max_tokens: 6, ignore_eos: true });
  const response = await fetch(`${mesh.url}/v1/completions`, { method: 'POST', body });
  const answer = (await response.json()) as { choices?: { text: string }[] };
  return { status: response.status, text: answer.choices?.[0]?.text ?? '' };
}

async function recordsOf(mesh: TestMesh, action: AuditAction, count: number): Promise<AuditRecord[]> {
  const dir = join(mesh.folder, 'outbox');
  await eventually(async () => named(await recordsIn(dir), action).length >= count, `${count} of ${action}`);
  return named(await recordsIn(dir), action);
}

async function textOf(t: TestContext, mesh: TestMesh, { tenant, actor, content_ref = '' }: AuditRecord) {
  const vault = await openVault(join(mesh.folder, 'keys'));
  t.after(() => vault.close());
  const files = await openSegmentFiles(join(mesh.folder, 'content'));
  return readContent(files, vault, { tenant, subject: actor.ref, reference: content_ref });
}

test('both records name the text, redacted; nothing of it lies open in any file', async (t) => {
  const mesh = await meshWith(t, policyFor({ local: { prompts: true, responses: true } }));
  const { text } = await complete(mesh, `# write to ${SECRET}\ndef f():`);
  const [accepted] = await recordsOf(mesh, 'request.accepted', 1);
  const [finished] = await recordsOf(mesh, 'request.finished', 1);
  assert.ok(accepted && finished);
  const prompt = await textOf(t, mesh, accepted);
  assert.ok(prompt.state === 'ok');
  assert.equal(prompt.text, '# write to [REDACTED:email]\ndef f():');
  assert.deepEqual(accepted.redactions, { email: 1 });
  assert.match(accepted.policy_sha ?? '', /^[0-9a-f]{64}$/);
  const answer = await textOf(t, mesh, finished);
  assert.ok(answer.state === 'ok');
  assert.equal(answer.text, text);
  for (const folder of ['outbox', 'content', 'keys']) {
    for (const name of readdirSync(join(mesh.folder, folder))) {
      const bytes = readFileSync(join(mesh.folder, folder, name));
      assert.equal(bytes.includes(SECRET) || bytes.includes('def f():'), false, `${folder}/${name}`);
    }
  }
});

test('prompts alone, when the policy says so, and nothing for a tenant that it does not name', async (t) => {
  const some = await meshWith(t, policyFor({ local: { prompts: true, responses: false } }));
  await complete(some, 'x = 1');
  assert.ok((await recordsOf(some, 'request.accepted', 1))[0]?.content_ref);
  assert.equal((await recordsOf(some, 'request.finished', 1))[0]?.content_ref, undefined);
  const none = await meshWith(t, policyFor({ other: { prompts: true, responses: true } }));
  await complete(none, 'x = 1');
  assert.equal((await recordsOf(none, 'request.accepted', 1))[0]?.content_ref, undefined);
  assert.equal((await recordsOf(none, 'request.finished', 1))[0]?.content_ref, undefined);
});

test('a prompt that must be kept and cannot be is not answered', async (t) => {
  const mesh = await meshWith(t, policyFor({ local: { prompts: true, responses: true } }));
  rmSync(join(mesh.folder, 'content'), { recursive: true });
  const { status } = await complete(mesh, 'x = 1');
  assert.equal(status, 503);
  assert.deepEqual(await recordsIn(join(mesh.folder, 'outbox')).then((all) => named(all, 'request.accepted')), []);
});
