/** When workspaces go: by age, by their tenant's bounds, with their run. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openWorkspaces } from '../../../services/tools/workspaces.ts';
import { alice, open, pathOf } from './support/workspaces.ts';

test('old workspaces go, those in use stay, temporary files of killed calls go', async (t) => {
  const { folders } = await open(t);
  const old = await pathOf(folders, { tenant: 'a', sessionId: 'old' });
  writeFileSync(join(old, 'x'), 'x');
  const used = await folders.enter({ tenant: 'a', sessionId: 'used' });
  await folders.sweep(Date.now() + 8 * 24 * 3_600_000);
  assert(!existsSync(old));
  assert(existsSync(used.workspace.path));
  await used.leave();

  mkdirSync(join(used.workspace.path, 'd'));
  for (const name of ['.quern-tmp-1', '.quern-tmp-2', 'mine']) writeFileSync(join(used.workspace.path, 'd', name), 'x');
  const hourAgo = Date.now() / 1000 - 7_200;
  for (const name of ['.quern-tmp-1', 'mine']) utimesSync(join(used.workspace.path, 'd', name), hourAgo, hourAgo);
  await folders.sweep();
  assert.deepEqual(readdirSync(join(used.workspace.path, 'd')).sort(), ['.quern-tmp-2', 'mine']);
});

test('a tenant has so many workspaces and so many bytes; those used longest ago go, also after a restart', async (t) => {
  const bounds = { tenantCountMax: 3, tenantBytesMax: 5_000_000 };
  const { dir, folders } = await open(t, bounds);
  const use = async (tenant: string, sessionId: string, bytes = 10): Promise<string> => {
    const entered = await folders.enter({ tenant, sessionId });
    writeFileSync(join(entered.workspace.path, 'x'), Buffer.alloc(bytes));
    await entered.leave();
    return entered.workspace.path;
  };
  const isGone = async (path: string): Promise<void> => {
    const since = performance.now();
    while (existsSync(path) && performance.now() - since < 10_000) await sleep(10);
    assert(!existsSync(path), path);
  };
  const other = await use('other', 's');
  const paths: string[] = [];
  for (let i = 0; i < 4; i++) paths.push(await use('acme', `s${i}`));
  await isGone(paths[0]!);
  assert(paths.slice(1).every((path) => existsSync(path)));
  const used = await folders.enter({ tenant: 'acme', sessionId: 's1' });
  t.after(() => used.leave());
  await use('acme', 'large', 4_990_000);
  await isGone(paths[2]!);
  assert(existsSync(paths[1]!) && existsSync(other), 'neither one in use nor one of another tenant');
  await used.leave();
  await folders.close();
  for (const name of readdirSync(dir))
    if (/^[0-9a-f]{32}$/.test(name)) utimesSync(join(dir, name), 1, Date.now() / 1000);
  const again = await openWorkspaces({ dir, watchMs: 10, ...bounds });
  t.after(() => again.close());
  for (const sessionId of ['n1', 'n2', 'n3']) await (await again.enter({ tenant: 'acme', sessionId })).leave();
  await isGone(paths[1]!);
  assert(existsSync(other));
});

test('the workspace of a run without a session goes at its end, or hours after its last call', async (t) => {
  const { dir, folders } = await open(t);
  const run = { tenant: 'acme', sessionId: 'run-1', requestId: 'run-1' };
  const folderOf = async (session: typeof run | typeof alice) =>
    join(await pathOf(folders, session as typeof alice), '..');
  const [named, nameless] = [await folderOf(alice), await folderOf(run)];
  const entered = await folders.enter(run);
  assert.equal(await folders.discard(run), false, 'a call is in it');
  await entered.leave();
  assert.equal(await folders.discard(run), true);
  assert(!existsSync(nameless) && existsSync(named));
  assert.equal(await folderOf(run), nameless);
  await folders.sweep(Date.now() + 3 * 3_600_000);
  assert(existsSync(nameless), 'the run may still go on');
  await folders.sweep(Date.now() + 5 * 3_600_000);
  assert(!existsSync(nameless) && existsSync(named));
  assert.deepEqual(readdirSync(join(dir, '.trash')), []);
});
