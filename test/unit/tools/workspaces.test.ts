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
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { QuernError } from '#kit/errors.ts';
import type { WorkspaceHold } from '../../../services/tools/call-ports.ts';
import { removeTree } from '../../../services/tools/folder-tree.ts';
import { workspaceDigest } from '../../../services/tools/workspace-digest.ts';
import { WorkspaceWatch } from '../../../services/tools/workspace-watch.ts';
import { openWorkspaces, type WorkspaceOptions } from '../../../services/tools/workspaces.ts';

const alice = { tenant: 'acme', sessionId: 'alice-1' };

async function open(t: TestContext, options: Partial<WorkspaceOptions> = {}) {
  const base = mkdtempSync(join(tmpdir(), 'quern-workspaces-'));
  const dir = join(base, 'ws');
  const folders = await openWorkspaces({ dir, watchMs: 10, ...options });
  t.after(async () => {
    await folders.close();
    await removeTree(base, join(tmpdir(), `quern-trash-${process.pid}`));
    rmSync(join(tmpdir(), `quern-trash-${process.pid}`), { recursive: true, force: true });
  });
  return { base, dir, folders };
}

async function pathOf(folders: Awaited<ReturnType<typeof openWorkspaces>>, session = alice): Promise<string> {
  const entered = await folders.enter(session);
  await entered.leave();
  return entered.workspace.path;
}

const rejects = (promise: Promise<unknown>, reason: string): Promise<void> =>
  assert.rejects(promise, (error) => {
    assert(error instanceof QuernError, String(error));
    assert.equal(error.details.reason, reason);
    return true;
  });

test('a session has one folder, private, whose name says nothing, and has it again after a restart', async (t) => {
  const { dir, folders } = await open(t);
  const path = await pathOf(folders);
  assert.equal(path, await pathOf(folders));
  assert.notEqual(path, await pathOf(folders, { tenant: 'acme', sessionId: 'alice-2' }));
  assert.notEqual(path, await pathOf(folders, { tenant: 'acme2', sessionId: 'alice-1' }));
  assert(!/acme|alice/.test(path));
  assert.equal(statSync(path).mode & 0o777, 0o700);
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  const again = await openWorkspaces({ dir });
  t.after(() => again.close());
  assert.equal(await pathOf(again), path);
});

test('tenant and session cannot be mixed up', async (t) => {
  const { folders } = await open(t);
  const first = await pathOf(folders, { tenant: 'a', sessionId: 'b","c' });
  assert.notEqual(first, await pathOf(folders, { tenant: 'a","b', sessionId: 'c' }));
});

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

test('what a person approved has its workspace for itself; others wait, in order', async (t) => {
  const { folders } = await open(t);
  const { signal } = new AbortController();
  const order: string[] = [];
  const enter = async (name: string, hold: WorkspaceHold) => {
    const entered = await folders.enter(alice, { waits: true });
    const begun = entered.begin({ hold, tool: 'fake', signal }).then(() => order.push(name));
    return { begun, leave: () => entered.leave() };
  };
  const [a, b] = [await enter('a', 'shared'), await enter('b', 'shared')];
  await Promise.all([a.begun, b.begun]);
  const alone = await enter('alone', 'alone');
  const late = await enter('late', 'shared');
  const second = await enter('second', 'alone');
  const outside = await enter('outside', 'none');
  await outside.begun;
  await outside.leave();
  await a.leave();
  assert.deepEqual(order, ['a', 'b', 'outside'], 'one still runs there');
  await b.leave();
  await alone.begun;
  assert.deepEqual(order, ['a', 'b', 'outside', 'alone']);
  await alone.leave();
  await late.begun;
  await late.leave();
  await second.begun;
  assert.deepEqual(order.slice(3), ['alone', 'late', 'second']);
  // Another session is another workspace, and a call that is cancelled while it waits holds nobody up.
  const other = await folders.enter({ tenant: 'acme', sessionId: 'other' }, { waits: true });
  await other.begin({ hold: 'alone', tool: 'fake', signal });
  const [gone, waits] = [new AbortController(), await folders.enter(alice, { waits: true })];
  const cancelled = waits.begin({ hold: 'alone', tool: 'fake', signal: gone.signal });
  gone.abort(new Error('cancelled'));
  await assert.rejects(cancelled, /cancelled/);
  await Promise.all([waits.leave(), other.leave(), second.leave()]);
  const last = await folders.enter(alice, { waits: true });
  await last.begin({ hold: 'alone', tool: 'fake', signal });
  await last.leave();
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

test('the digest tells any change, and minds no name, mode or depth', async (t) => {
  const { folders } = await open(t);
  const path = await pathOf(folders);
  writeFileSync(Buffer.from(`${path}/b\xe4d`, 'latin1'), 'no UTF-8');
  mkdirSync(join(path, 'closed'));
  writeFileSync(join(path, 'closed', 'inner'), 'x');
  chmodSync(join(path, 'closed'), 0);
  symlinkSync('/', join(path, 'root'));
  const deep = 'import os\nfor i in range(200):\n os.mkdir("d"*40)\n os.chdir("d"*40)\nopen("x","w").write("x")';
  execFileSync('/usr/bin/python3', ['-c', deep], { cwd: path });
  let last = await workspaceDigest(path);
  assert.equal(await workspaceDigest(path), last, 'looking changes nothing');
  const changes = [
    () => writeFileSync(Buffer.from(`${path}/b\xe4d`, 'latin1'), 'NO UTF-8'),
    () => writeFileSync(join(path, 'closed', 'inner'), 'y'),
    () => execFileSync('/usr/bin/python3', ['-c', deep.replace('os.mkdir', '(lambda x: x)')], { cwd: path }),
    () => execFileSync('/bin/sh', ['-c', 'mv closed opened && ln -s opened closed'], { cwd: path }),
  ];
  for (const change of changes) {
    await sleep(20); // the kernel's clock for times of change
    change();
    const now = await workspaceDigest(path);
    assert.notEqual(now, last, String(change));
    last = now;
  }
});

test('an artifact is a plain file of the workspace, or nothing', async (t) => {
  const { base, folders } = await open(t);
  const entered = await folders.enter(alice);
  t.after(() => entered.leave());
  const { path } = entered.workspace;
  mkdirSync(join(path, 'out'));
  writeFileSync(join(path, 'out', 'plot ä.png'), 'PNG');
  writeFileSync(join(path, 'large'), Buffer.alloc(70_000, 1));
  writeFileSync(join(base, 'secret'), 'secret');
  symlinkSync(join(base, 'secret'), join(path, 'link'));
  symlinkSync(base, join(path, 'folder-link'));
  execFileSync('/usr/bin/mkfifo', [join(path, 'fifo')]);
  const socket = createServer().listen(join(path, 's'));
  t.after(() => socket.close());
  writeFileSync(join(path, 'unreadable'), 'x', { mode: 0 });

  const read = (name: string) => entered.artifact({ path: name, mediaType: 'image/png' });
  const plot = await read('./out/plot ä.png');
  assert.equal(plot?.path, 'out/plot ä.png');
  assert.equal(plot.size, 3);
  assert.equal(plot.data.toString(), 'PNG');
  assert.equal(plot.sha256.length, 32);
  const large = await read('large');
  assert.equal(large?.size, 70_000);
  assert.equal(large.data.length, 0); // named and hashed only
  const begin = performance.now();
  const refused = [
    'link',
    'folder-link/secret',
    '../secret',
    'out/../large',
    join(base, 'secret'),
    'fifo',
    's',
    'out',
    '',
    '/',
    'none',
    'a'.repeat(300), // longer than a name can be
    'a\0b',
  ];
  for (const name of refused) assert.equal(await read(name), null, name);
  assert(performance.now() - begin < 20_000);
});

test('going back brings back files, folders, links, modes and times, and nothing else', async (t) => {
  const { folders } = await open(t);
  const path = await pathOf(folders);
  mkdirSync(join(path, 'src', 'empty'), { recursive: true });
  writeFileSync(join(path, 'src', 'run.sh'), 'echo hi', { mode: 0o755 });
  writeFileSync(join(path, 'big'), Buffer.alloc(3_000_000, 7));
  utimesSync(join(path, 'big'), 1_000_000, 1_000_000);
  symlinkSync('../../etc/passwd', join(path, 'link'));
  execFileSync('/usr/bin/mkfifo', [join(path, 'fifo')]);
  writeFileSync(Buffer.from(`${path}/b\xe4d`, 'latin1'), 'no UTF-8');
  const { id, files, bytes } = await folders.snapshot(alice);
  assert.match(id, /^[0-9A-Z]{26}$/);
  assert.equal(files, 6);
  assert.equal(bytes, 3_000_015);

  rmSync(join(path, 'src'), { recursive: true });
  writeFileSync(join(path, 'big'), 'changed');
  writeFileSync(join(path, 'new'), 'new');
  chmodSync(path, 0o500);
  await folders.rollback(alice, id);
  assert.deepEqual(readdirSync(path, { encoding: 'latin1' }).sort(), ['big', 'b\xe4d', 'link', 'src'].sort());
  assert.equal(readFileSync(join(path, 'src', 'run.sh'), 'utf8'), 'echo hi');
  assert.equal(statSync(join(path, 'src', 'run.sh')).mode & 0o777, 0o755);
  assert(statSync(join(path, 'src', 'empty')).isDirectory());
  assert(readFileSync(join(path, 'big')).equals(Buffer.alloc(3_000_000, 7)));
  assert.equal(statSync(join(path, 'big')).mtimeMs, 1_000_000_000);
  assert.equal(readlinkSync(join(path, 'link')), '../../etc/passwd');
});

test('others get their turn while a large file is copied, there and back', async (t) => {
  const { folders } = await open(t);
  const path = await pathOf(folders);
  writeFileSync(join(path, 'big'), Buffer.alloc(64 * 1024 * 1024, 7));
  const turnsDuring = async <T>(work: Promise<T>): Promise<[T, number]> => {
    let turns = 0;
    let isOver = false;
    const count = (): void => {
      turns++;
      if (!isOver) setImmediate(count);
    };
    count();
    const value = await work.finally(() => {
      isOver = true;
    });
    return [value, turns];
  };
  const [{ id }, whileCopied] = await turnsDuring(folders.snapshot(alice));
  assert(whileCopied > 60, `${whileCopied} turns`);
  const [, whileRestored] = await turnsDuring(folders.rollback(alice, id));
  assert(whileRestored > 60, `${whileRestored} turns`);
});

test('a copy belongs to its session, is used only whole, and not under a running call', async (t) => {
  const { folders } = await open(t);
  const path = await pathOf(folders);
  writeFileSync(join(path, 'a'), 'one');
  const { id } = await folders.snapshot(alice);
  const bob = { tenant: 'acme', sessionId: 'bob' };
  await pathOf(folders, bob);
  await rejects(folders.rollback(bob, id), 'SNAPSHOT_UNKNOWN');
  await rejects(folders.rollback(alice, '../../../../etc/passwd'), 'SNAPSHOT_UNKNOWN');

  const entered = await folders.enter(alice);
  await rejects(folders.rollback(alice, id), 'WORKSPACE_BUSY');
  await rejects(folders.snapshot(alice), 'WORKSPACE_BUSY');
  await entered.leave();
  await entered.leave();

  writeFileSync(join(path, 'a'), 'two');
  const file = join(path, '..', 'snapshots', id);
  const whole = readFileSync(file);
  for (const broken of [
    whole.subarray(0, whole.length - 10),
    Buffer.from(whole.toString('latin1').replace('one', 'One'), 'latin1'),
  ]) {
    writeFileSync(file, broken);
    await rejects(folders.rollback(alice, id), 'SNAPSHOT_DAMAGED');
    assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'two');
  }
  writeFileSync(file, whole);
  const [first] = await Promise.all([folders.rollback(alice, id), folders.enter(alice).then((one) => one.leave())]);
  assert.equal(first, undefined);
  assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'one');
});

test('a call that waited for a copy is seen by the next copy', async (t) => {
  const { folders } = await open(t);
  await pathOf(folders);
  const copying = folders.snapshot(alice);
  const entered = await folders.enter(alice);
  t.after(() => entered.leave());
  await copying;
  await rejects(folders.snapshot(alice), 'WORKSPACE_BUSY');
});

test('a crash in the middle of going back leaves the old state or the new one', async (t) => {
  const { dir, folders } = await open(t);
  const path = await pathOf(folders);
  const folder = join(path, '..');
  writeFileSync(join(path, 'a'), 'old');
  mkdirSync(join(folder, 'work.HALF'));
  const restarted = async (): Promise<void> => (await openWorkspaces({ dir })).close();
  await restarted();
  assert.deepEqual(readdirSync(folder).sort(), ['tenant', 'work']);
  assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'old');
  mkdirSync(join(folder, 'next'));
  writeFileSync(join(folder, 'next', 'a'), 'new');
  await restarted();
  assert.deepEqual(readdirSync(folder).sort(), ['tenant', 'work']);
  assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'new');
});

test('the newest eight copies are kept', async (t) => {
  const { folders } = await open(t);
  const ids: string[] = [];
  for (let i = 0; i < 10; i++) ids.push((await folders.snapshot(alice)).id);
  await rejects(folders.rollback(alice, ids[0]!), 'SNAPSHOT_UNKNOWN');
  await folders.rollback(alice, ids.at(-1)!);
  assert.equal(readdirSync(join(await pathOf(folders), '..', 'snapshots')).length, 8);
});

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

test('a thousand files are copied, and brought back, in well under a second', async (t) => {
  const { folders } = await open(t);
  const path = await pathOf(folders);
  for (let i = 0; i < 1_000; i++) writeFileSync(join(path, `file-${i}`), `content ${i}`);
  const cpu = process.cpuUsage();
  const { id, files } = await folders.snapshot(alice);
  await folders.rollback(alice, id);
  const { user, system } = process.cpuUsage(cpu);
  assert.equal(files, 1_000);
  assert((user + system) / 1000 < 1_500, `${(user + system) / 1000} ms of CPU time`);
  assert.equal(readFileSync(join(path, 'file-999'), 'utf8'), 'content 999');
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
