import assert from 'node:assert/strict';
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { auditKeys } from '../../../services/audit/key-files.ts';

test('the signing key lies in a folder of its own when it has one, and no second one is made beside an old one', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const keyDir = join(dir, 'keys');
  const signingKeyDir = join(dir, 'signing');
  const together = await auditKeys({ keyDir, signingKeyDir: null });
  assert.deepEqual((await readdir(keyDir)).sort(), ['signing-key.pem', 'vault-key']);
  await assert.rejects(auditKeys({ keyDir, signingKeyDir }), /QUERN_AUDIT_SIGNING_KEY_DIR: .* move it, so that/);
  const elsewhere = { keyDir: join(dir, 'other'), signingKeyDir };
  const apart = await auditKeys(elsewhere);
  assert.notEqual(apart.signing, together.signing);
  assert.deepEqual(
    [await readdir(elsewhere.keyDir), await readdir(signingKeyDir)],
    [['vault-key'], ['signing-key.pem']],
  );
  assert.deepEqual(await auditKeys(elsewhere), apart, 'the same at the next start');
  // As the message says.
  await rename(join(keyDir, 'signing-key.pem'), join(signingKeyDir, 'signing-key.pem'));
  assert.equal((await auditKeys({ keyDir, signingKeyDir })).signing, together.signing);
});
