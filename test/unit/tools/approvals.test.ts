import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuernError } from '#kit/errors.ts';
import { Approvals } from '../../../services/tools/approvals.ts';
import { APPROVALS_PENDING_PER_TENANT_MAX } from '../../../services/tools/limits.ts';

const subject = { toolSha: 't', fingerprint: 'f', args: {}, stdinSha: '', workspaceDigest: 'w', policySha: 'p' };

test('one tenant whose people do not answer leaves room for another', async () => {
  const approvals = new Approvals();
  const stop = new AbortController();
  const ask = (tenant: string) => approvals.ask({ tenant, subject, waitMs: 60_000, signal: stop.signal });
  const asked = Array.from({ length: APPROVALS_PENDING_PER_TENANT_MAX }, () => ask('loud'));
  assert.throws(
    () => ask('loud'),
    (error: QuernError) => error.details.reason === 'APPROVALS_FULL',
  );
  const other = ask('quiet');
  approvals.deny(asked[0]!.id, 'no', { tenant: 'loud', user: 'u', keyId: 'k' });
  assert.equal((await asked[0]!.answered).kind, 'denied');
  asked.push(ask('loud'));
  stop.abort(new Error('over'));
  const ends = await Promise.allSettled([...asked, other].map(({ answered }) => answered));
  assert.equal(ends.filter(({ status }) => status === 'rejected').length, APPROVALS_PENDING_PER_TENANT_MAX + 1);
  assert.equal(approvals.size, 0);
});
