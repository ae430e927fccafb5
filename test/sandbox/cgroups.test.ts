/** The machine's own cgroups, by themselves: limits that the kernel took, counts that it keeps, and the kill as a whole. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmdirSync } from 'node:fs';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { prepareCgroups } from '../../services/tools/jail/cgroup-subtree.ts';
import type { Cgroup } from '../../services/tools/jail/cgroups.ts';
import { startTimeOf } from '../../services/tools/jail/process-status.ts';
import { subtrees } from './jail-client.ts';

const found = prepareCgroups(null);
assert(found.ok, found.ok ? '' : `${found.detail}; ${found.remedy}`);
const { cgroups } = found;
after(() => {
  // v2 keeps this process in a leaf of its own until it ends.
  if (cgroups.version === 1) for (const folder of subtrees(process.pid)) rmdirSync(folder);
});

const MIB = 1024 ** 2;

/** A shell in the group that waits for a line before it runs its script. */
async function startIn(group: Cgroup, script: string): Promise<ChildProcess> {
  const child = spawn('/usr/bin/bash', ['-c', `read -r line; ${script}`], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: {},
  });
  await group.attach(child.pid!);
  child.stdin!.end('go\n');
  return child;
}

test('a tree that starts itself anew all the time is killed as a whole, and its group removed', async () => {
  const group = cgroups.create({ memoryBytes: 64 * MIB, pids: 24 });
  const child = await startIn(group, 'f() { while :; do (f) & sleep 0.01; done; }; trap "" TERM HUP INT; f');
  const exited = once(child, 'exit');
  while (group.usage().pidsRefused === 0 || group.processes().length < 10) await sleep(5); // control: it grows to its limit
  const since = performance.now();
  while (group.processes().length > 0) {
    assert(performance.now() - since < 20_000, 'it outgrows its kill');
    group.kill();
    await sleep(2);
  }
  await exited;
  await group.remove();
  assert.deepEqual(group.processes(), []);
});

test('CPU time, peak memory and kills for memory are counted', async () => {
  const group = cgroups.create({ memoryBytes: 16 * MIB, pids: 8 });
  const calm = await startIn(group, 'for ((i = 0; i < 20000; i++)); do :; done');
  await once(calm, 'exit');
  const before = group.usage();
  assert(before.cpuNs! > 1e6 && before.maxMemoryBytes! > 0, JSON.stringify(before));
  assert.equal(before.oomKills, 0);
  const greedy = await startIn(group, 'x=$(head -c 200000000 /dev/zero | tr "\\0" x)');
  await once(greedy, 'exit');
  assert(group.usage().oomKills > 0);
  assert(group.usage().maxMemoryBytes! <= 17 * MIB);
  await group.remove();
});

test('a frozen group does nothing until it is let go on; killed while it is frozen it is gone all the same', async () => {
  const group = cgroups.create({ memoryBytes: 64 * MIB, pids: 24 });
  const child = await startIn(group, 'f() { while :; do (:); done; }; f & f & wait');
  const exited = once(child, 'exit');
  const used = (): number => group.usage().cpuNs!;
  const moves = async (): Promise<void> => {
    for (const before = used(); used() < before + 20e6; ) await sleep(5);
  };
  await moves();
  for (let i = 0; i < 3; i++) {
    assert.equal(await group.freeze(), true);
    const before = used();
    await sleep(50);
    assert.equal(used(), before, 'it stands still');
    group.thaw();
    await moves(); // control: it goes on
  }
  assert.equal(await group.freeze(), true);
  const since = performance.now();
  while (group.processes().length > 0) {
    assert(performance.now() - since < 20_000, 'it outlives its kill');
    group.kill();
    await sleep(2);
  }
  await exited;
  assert.equal(await group.freeze(), true, 'nobody is there to stop');
  await group.remove();
  assert.equal(await group.freeze(), true, 'nor here');
  group.thaw();
});

/** A service that dies while a group of its stands still. */
const DIES = `import { spawn } from 'node:child_process';
import { prepareCgroups } from ${JSON.stringify(import.meta.resolve('../../services/tools/jail/cgroup-subtree.ts'))};
const { cgroups } = prepareCgroups(null);
const group = cgroups.create({ memoryBytes: 1 << 26, pids: 8 });
const child = spawn('/usr/bin/sleep', ['600'], { stdio: 'ignore', detached: true });
await group.attach(child.pid);
if (!(await group.freeze())) throw new Error('not frozen');
process.stdout.write(String(child.pid), () => process.kill(process.pid, 'SIGKILL'));
setInterval(() => {}, 1_000);`;

test('what stood still when its service died is ended by the next one', async () => {
  const service = spawn(process.execPath, ['--input-type=module', '-e', DIES], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  service.stdout.on('data', (data) => {
    said += data;
  });
  await once(service, 'close');
  const pid = Number(said);
  assert(startTimeOf(pid) !== null, 'control: it is still there');
  await cgroups.sweep();
  while (startTimeOf(pid) !== null) await sleep(5);
});

test('a group in use is not removed under its processes', async () => {
  const group = cgroups.create({ memoryBytes: 16 * MIB, pids: 8 });
  const child = await startIn(group, 'exec sleep 600');
  const exited = once(child, 'exit');
  let removed = false;
  const removal = group.remove().then(() => {
    removed = true;
  });
  await sleep(100);
  assert.equal(removed, false);
  child.kill('SIGKILL');
  await exited;
  await removal;
  assert.throws(() => readFileSync(`/proc/${child.pid}/stat`));
});
