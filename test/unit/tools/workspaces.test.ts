/** Whose a workspace is, who may be in it at once, what it is told from another state by, and what leaves it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkspaceHold } from '../../../services/tools/call-ports.ts';
import { workspaceDigest } from '../../../services/tools/workspace-digest.ts';
import { openWorkspaces } from '../../../services/tools/workspaces.ts';
import { alice, open, pathOf } from './support/workspaces.ts';

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
