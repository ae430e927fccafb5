// The policy's file is read again; a mistake in it changes nothing but what operators are told.
import assert from 'node:assert/strict';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openPolicyFile } from '../../../services/tools/policy-file.ts';
import type { SettingsProblem } from '../../../services/tools/tools-status.ts';

async function open(t: TestContext, text: string, lookMs = 3_600_000) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-policy-'));
  t.after(() => rm(dir, { recursive: true }));
  const path = join(dir, 'policy.yaml');
  await writeFile(path, text);
  const told: (SettingsProblem | null)[] = [];
  const changed = Promise.withResolvers<void>();
  const onChange = (problem: SettingsProblem | null): void => {
    told.push(problem);
    changed.resolve();
  };
  const policy = await openPolicyFile({ path, onChange, lookMs });
  t.after(() => policy.close());
  const pids = (): number => policy.current().host.limits.pids ?? 0;
  return { path, policy, told, pids, changed: changed.promise };
}

test('a changed policy holds from then on; one with a mistake does not, and is told with the key that was meant', async (t) => {
  const { path, policy, told, pids } = await open(t, 'pids: 32\n');
  await policy.reload();
  assert.deepEqual([pids(), told], [32, []]);
  await writeFile(`${path}.new`, 'pids: 16\n');
  await rename(`${path}.new`, path);
  await policy.reload();
  assert.deepEqual([pids(), policy.problem(), told], [16, null, [null]]);
  await writeFile(path, 'pids: 8\nwal_ms: 5\n');
  await policy.reload();
  const message = 'has no field "wal_ms" (did you mean "wall_ms"?); what it said before still holds';
  assert.deepEqual([pids(), policy.problem()], [16, { file: path, message }]);
  await policy.reload();
  assert.equal(told.length, 2, 'a mistake is told once');
  await rm(path);
  await policy.reload();
  assert.equal(pids(), 16, 'a file that is gone is no reason for less strict rules');
  assert.match(policy.problem()?.message ?? '', /ENOENT/);
  await writeFile(path, 'pids: 4\n');
  await policy.reload();
  assert.deepEqual([pids(), policy.problem()], [4, null]);
});

test('the file is looked at by itself', async (t) => {
  const { path, pids, changed } = await open(t, 'pids: 32\n', 5);
  await writeFile(path, 'pids: 9\n');
  await changed;
  assert.equal(pids(), 9);
});

test('a service does not start with a policy that it cannot read', async () => {
  await assert.rejects(openPolicyFile({ path: '/nowhere/policy.yaml', onChange: () => {} }), { code: 'ENOENT' });
});
