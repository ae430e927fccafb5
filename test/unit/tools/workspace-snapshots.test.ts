/** Copies of a workspace, and going back to one. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openWorkspaces } from '../../../services/tools/workspaces.ts';
import { alice, open, pathOf, rejects } from './support/workspaces.ts';

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
