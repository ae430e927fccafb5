/** What a workspace may hold: its quota, the disk, and who looks at it while calls run. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkspaceWatch } from '../../../services/tools/workspace-watch.ts';
import { alice, open, pathOf, rejects } from './support/workspaces.ts';

test('a workspace that outgrows its quota says so while the call runs', async (t) => {
  const { folders } = await open(t, { bytesMax: 1_000_000, entriesMax: 50 });
  const one = await folders.enter(alice);
  writeFileSync(join(one.workspace.path, 'small'), 'x');
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert(!one.full.aborted);
  writeFileSync(join(one.workspace.path, 'big'), Buffer.alloc(2_000_000));
  await new Promise((resolve) => one.full.addEventListener('abort', resolve, { once: true }));
  assert.match((one.full.reason as Error).message, /2\d{6} bytes; expected at most 1000000/);
  await one.leave();

  // It may shrink afterwards, but not grow.
  const two = await folders.enter(alice);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert(!two.full.aborted);
  truncateSync(join(two.workspace.path, 'big'), 0);
  for (let i = 0; i < 60; i++) mkdirSync(join(two.workspace.path, `d${i}`));
  await new Promise((resolve) => two.full.addEventListener('abort', resolve, { once: true }));
  assert.match((two.full.reason as Error).message, /62 files; expected at most 50/);
  await two.leave();
});

test('sparse files count as what they say, hard links once, folders without rights too', async (t) => {
  const { folders } = await open(t);
  const path = await pathOf(folders);
  closeSync(openSync(join(path, 'sparse'), 'w'));
  truncateSync(join(path, 'sparse'), 5_000_000);
  writeFileSync(join(path, 'a'), Buffer.alloc(100_000));
  linkSync(join(path, 'a'), join(path, 'b'));
  mkdirSync(join(path, 'closed'));
  writeFileSync(join(path, 'closed', 'c'), Buffer.alloc(300_000));
  chmodSync(join(path, 'closed'), 0);
  const { bytes, entries } = await folders.usage(alice);
  assert.equal(entries, 5);
  assert(bytes >= 5_400_000 && bytes < 5_500_000, `${bytes}`);
});

test('a tree of any depth is measured, leaves its session usable, and goes all the same', async (t) => {
  const { dir, folders } = await open(t, { bytesMax: 20_000_000, entriesMax: 2_000 });
  const path = await pathOf(folders);
  const script = `import os
for i in range(300):
 os.mkdir("d"*40)
 os.mkdir("e")
 os.chdir("d"*40)
open("big","wb").truncate(7000000)
os.mkdir("x")
os.chmod("x",0)`;
  execFileSync('/usr/bin/python3', ['-c', script], { cwd: path });
  const entered = await folders.enter(alice);
  t.after(() => entered.leave());
  await sleep(300);
  assert(!entered.full.aborted, 'a deep tree is not too large a tree');
  const { bytes, entries } = await folders.usage(alice);
  assert.equal(entries, 602);
  assert(bytes > 7_000_000 && bytes < 12_000_000, `${bytes}`);
  // What lies deep counts: it is no place to hide in.
  const fill = script
    .replace('300', '100')
    .replaceAll('"d"', '"f"')
    .replaceAll('"e"', '"g"')
    .replace('7000000', '50000000');
  execFileSync('/usr/bin/python3', ['-c', fill], { cwd: path });
  if (!entered.full.aborted) await once(entered.full, 'abort');
  assert.match((entered.full.reason as Error).message, /bytes; expected at most 20000000/);
  await entered.leave();
  await rejects(folders.snapshot(alice), 'WORKSPACE_TOO_DEEP');
  await folders.sweep(Date.now() + 30 * 24 * 3_600_000);
  assert(!existsSync(path));
  assert.deepEqual(readdirSync(join(dir, '.trash')), []);
});

test('one watch looks at a folder for all calls in it, and each call may grow it to the quota only', async (t) => {
  const { folders } = await open(t, { bytesMax: 1_000_000 });
  const path = await pathOf(folders);
  for (let i = 0; i < 2_000; i++) writeFileSync(join(path, `f${i}`), '');
  const cpuOf = async (calls: number): Promise<number> => {
    const entered = await Promise.all(Array.from({ length: calls }, () => folders.enter(alice)));
    const cpu = process.cpuUsage();
    await sleep(1_500);
    const { user, system } = process.cpuUsage(cpu);
    if (calls > 1) {
      writeFileSync(join(path, 'big'), Buffer.alloc(2_000_000));
      await Promise.all(entered.map(({ full }) => full.aborted || once(full, 'abort')));
    }
    await Promise.all(entered.map((one) => one.leave()));
    return user + system;
  };
  await cpuOf(1); // warm
  const one = await cpuOf(1);
  const many = await cpuOf(30);
  assert(many < 5 * one + 100_000, `one call: ${one} µs, 30 calls: ${many} µs`);
});

test('a call that waits has nobody look at its folder until it begins', async (t) => {
  const { folders } = await open(t, { bytesMax: 1_000_000 });
  const entered = await folders.enter(alice, { waits: true });
  t.after(() => entered.leave());
  await sleep(100);
  writeFileSync(join(entered.workspace.path, 'of-another-call'), Buffer.alloc(2_000_000));
  await sleep(400);
  assert(!entered.full.aborted);
  await entered.begin({ hold: 'shared', tool: 'fake', signal: new AbortController().signal });
  await sleep(400);
  assert(!entered.full.aborted, 'it may shrink, not grow');
  writeFileSync(join(entered.workspace.path, 'more'), Buffer.alloc(2_000_000));
  if (!entered.full.aborted) await once(entered.full, 'abort');
});

test('where the disk is nearly full no call begins', async (t) => {
  const { folders } = await open(t, { reserveBytes: Number.MAX_SAFE_INTEGER });
  await rejects(folders.enter(alice), 'DISK_FULL');
});

test('a call ends when others have filled the disk', async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'quern-watch-'));
  t.after(() => rmSync(path, { recursive: true }));
  const errors: unknown[] = [];
  const bounds = { bytesMax: 1_000, entriesMax: 10, watchMs: 10, reserveBytes: Number.MAX_SAFE_INTEGER };
  const full = new AbortController();
  const leave = new WorkspaceWatch(path, { ...bounds, onError: (error) => errors.push(error) }).join(full);
  if (!full.signal.aborted) await once(full.signal, 'abort');
  leave();
  assert.match((full.signal.reason as Error).message, /the disk of the workspaces has \d+ bytes left/);
  assert.deepEqual(errors, []);
});
