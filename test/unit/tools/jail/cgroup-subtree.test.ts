/** Where the service's cgroups are made, on v1 as the kernel shows it and on v2 in a tree of plain files. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ownV1Folders, ownV2Folder, prepareCgroups } from '../../../../services/tools/jail/cgroup-subtree.ts';
import { openCgroupsV1 } from '../../../../services/tools/jail/cgroup-v1.ts';
import { type Cgroups, removeGroup, staleSubtrees, subtreeName } from '../../../../services/tools/jail/cgroups.ts';
import { startTimeOf } from '../../../../services/tools/jail/process-status.ts';

const v1Mount = (point: string, options: string, root = '/'): string =>
  `30 25 0:26 ${root} ${point} rw,relatime - cgroup cgroup rw,${options}`;
const v2Mount = (point: string, root = '/'): string => `40 25 0:27 ${root} ${point} rw - cgroup2 cgroup2 rw`;

test('v1: each controller below its mount, controllers that are mounted together share a folder', () => {
  const view = {
    mountinfo: [
      v1Mount('/cg/cpu,cpuacct', 'cpu,cpuacct'),
      v1Mount('/cg/memory', 'memory'),
      v1Mount('/cg/pids', 'pids'),
    ].join('\n'),
    ownGroups: '4:memory:/user/1\n3:cpu,cpuacct:/\n2:pids:/user/1\n0::/x\n',
  };
  assert.deepEqual(ownV1Folders(view), {
    cpu: '/cg/cpu,cpuacct',
    cpuacct: '/cg/cpu,cpuacct',
    memory: '/cg/memory/user/1',
    pids: '/cg/pids/user/1',
  });
});

test('in a container the mount shows the own group as its root', () => {
  const view = { mountinfo: v1Mount('/cg/pids', 'pids', '/docker/abc'), ownGroups: '2:pids:/docker/abc/inner\n' };
  assert.deepEqual(ownV1Folders(view), { pids: '/cg/pids/inner' });
  const outside = { mountinfo: v1Mount('/cg/pids', 'pids', '/docker/abc'), ownGroups: '2:pids:/\n' };
  assert.deepEqual(ownV1Folders(outside), { pids: '/cg/pids' });
  assert.equal(ownV2Folder({ mountinfo: v2Mount('/cg'), ownGroups: '0::/a/b:c\n' }), '/cg/a/b:c');
  assert.equal(ownV2Folder({ mountinfo: v2Mount('/cg', '/../..'), ownGroups: '0::/../../svc\n' }), '/cg');
  assert.equal(ownV2Folder({ mountinfo: '', ownGroups: '' }), null);
});

/** A v2 group as plain files: what is written to them stays to be read. */
function fakeV2(
  t: TestContext,
  group = '/',
  controllers = 'cpuset cpu io memory pids',
): { root: string; own: string; view: Parameters<typeof prepareCgroups>[1] } {
  const root = mkdtempSync(join(tmpdir(), 'quern-cgroup-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const own = join(root, group);
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, 'cgroup.controllers'), `${controllers}\n`);
  writeFileSync(join(own, 'cgroup.procs'), '11\n12\n');
  return { root, own, view: { mountinfo: v2Mount(root), ownGroups: `0::${group}\n` } };
}

function opened(found: ReturnType<typeof prepareCgroups>): Cgroups {
  assert(found.ok, JSON.stringify(found));
  return found.cgroups;
}

test('v2: the service goes into a leaf, controllers are enabled for the runs beside it', (t) => {
  const { own, view } = fakeV2(t, '/system.slice/quern.service');
  const cgroups = opened(prepareCgroups(null, view));
  const subtree = join(own, subtreeName());
  const read = (...path: string[]): string => readFileSync(join(...path), 'utf8');
  assert.equal(cgroups.version, 2);
  assert.equal(read(subtree, 'service/cgroup.procs'), String(process.pid));
  assert.equal(read(own, 'cgroup.subtree_control'), '+pids +memory +cpu');
  assert.equal(read(subtree, 'cgroup.subtree_control'), '+pids +memory +cpu');
  const again = { ...view!, ownGroups: `0::/system.slice/quern.service/${subtreeName()}/service\n` };
  opened(prepareCgroups(null, again));
  assert(!existsSync(join(subtree, 'service', subtreeName())), 'a later start finds the same place');
});

test('v2: a controller that was not delegated is named, with what to do', (t) => {
  const { view } = fakeV2(t, '/', 'cpuset hugetlb memory');
  const found = prepareCgroups(null, view);
  assert(!found.ok);
  assert.match(found.detail, /has no pids, cpu controller/);
  assert.match(found.remedy, /Delegate=yes/);
  const none = prepareCgroups(null, { mountinfo: '', ownGroups: '' });
  assert(!none.ok && /no cgroup hierarchy with pids, memory, cpu is mounted/.test(none.detail));
});

test('v2: one group per run with its limits; what it used is read back; it is killed as a whole and removed', async (t) => {
  const { own, view } = fakeV2(t);
  const cgroups = opened(prepareCgroups(null, view));
  const group = cgroups.create({ memoryBytes: 5_000_000, pids: 7 });
  const place = join(own, subtreeName(), group.name);
  const read = (name: string): string => readFileSync(join(place, name), 'utf8');
  assert.deepEqual(['pids.max', 'memory.max', 'memory.oom.group', 'cpu.max'].map(read), [
    '7',
    '5000000',
    '1',
    '100000 100000',
  ]);
  await group.attach(4321);
  assert.equal(read('cgroup.procs'), '4321');
  assert.deepEqual(group.processes(), [4321]);
  writeFileSync(join(place, 'memory.events'), 'low 0\noom 2\noom_kill 1\n');
  writeFileSync(join(place, 'memory.peak'), '4096\n');
  writeFileSync(join(place, 'cpu.stat'), 'usage_usec 1500\nuser_usec 1\n');
  writeFileSync(join(place, 'pids.events'), 'max 3\n');
  assert.deepEqual(group.usage(), { cpuNs: 1_500_000, maxMemoryBytes: 4096, oomKills: 1, pidsRefused: 3 });
  writeFileSync(join(place, 'cgroup.events'), 'populated 1\nfrozen 1\n');
  assert.equal(await group.freeze(), true);
  assert.equal(read('cgroup.freeze'), '1');
  group.thaw();
  assert.equal(read('cgroup.freeze'), '0');
  writeFileSync(join(place, 'cgroup.events'), 'populated 1\nfrozen 0\n');
  let stands = false;
  const freezing = group.freeze().then((answer) => {
    assert(stands, 'it waits for the last of them');
    return answer;
  });
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
  stands = true;
  writeFileSync(join(place, 'cgroup.events'), 'populated 1\nfrozen 1\n');
  assert.equal(await freezing, true);
  group.kill();
  assert.equal(read('cgroup.kill'), '1');
  rmSync(place, { recursive: true }); // plain files do not go with their folder, as the kernel's do
  mkdirSync(place);
  await group.remove();
  assert(!existsSync(place));
  await group.remove();
  assert.deepEqual(group.usage(), { cpuNs: null, maxMemoryBytes: null, oomKills: 0, pidsRefused: 0 });
});

test('what services that are gone left is removed, what belongs to living ones or others stays', async (t) => {
  const { own, view } = fakeV2(t);
  const otherLife = `quern-tools-${process.pid}-${startTimeOf(process.pid)! - 1}`;
  const gone = 'quern-tools-99999999-1';
  const living = `quern-tools-${process.ppid}-${startTimeOf(process.ppid)}`;
  for (const name of [`${otherLife}/run-3`, `${gone}/service`, `${living}/run-1`, 'somebody-elses/run-0']) {
    mkdirSync(join(own, name), { recursive: true });
  }
  assert.deepEqual(staleSubtrees(own).sort(), [gone, otherLife].sort());
  const cgroups = opened(prepareCgroups(null, view));
  assert.deepEqual(staleSubtrees(own), []);
  assert(existsSync(join(own, living, 'run-1')) && existsSync(join(own, 'somebody-elses/run-0')));
  assert.equal(await cgroups.sweep(), 0);
  // A group that was still busy then: the sweep kills it. The file that it writes keeps a plain folder from being removed.
  mkdirSync(join(own, gone, 'run-7'), { recursive: true });
  await assert.rejects(cgroups.sweep(), /ENOTEMPTY/);
  assert.equal(readFileSync(join(own, gone, 'run-7/cgroup.kill'), 'utf8'), '1');
});

test('a group that is not there any more is removed already', async () => {
  await removeGroup(join(tmpdir(), 'quern-no-such-group'));
});

test('v1: limits in the files of each controller, swap with memory where it is counted', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'quern-cgroup-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const folders = {
    pids: join(root, 'pids'),
    memory: join(root, 'memory'),
    cpu: join(root, 'cpu'),
    cpuacct: join(root, 'cpu'),
    freezer: join(root, 'freezer'),
  };
  for (const folder of new Set(Object.values(folders))) mkdirSync(folder);
  const cgroups = openCgroupsV1(folders);
  const group = cgroups.create({ memoryBytes: 1_000_000, pids: 9 });
  const read = (controller: string, file: string): string =>
    readFileSync(join(root, controller, group.name, file), 'utf8');
  assert.equal(read('pids', 'pids.max'), '9');
  assert.equal(read('memory', 'memory.limit_in_bytes'), '1000000');
  assert.equal(read('memory', 'memory.swappiness'), '0', 'no file for swap: it is not used');
  assert.deepEqual([read('cpu', 'cpu.cfs_period_us'), read('cpu', 'cpu.cfs_quota_us')], ['100000', '100000']);
  await group.attach(77);
  for (const controller of ['pids', 'memory', 'cpu']) assert.equal(read(controller, 'cgroup.procs'), '77');
  writeFileSync(join(root, 'cpu', group.name, 'cpuacct.usage'), '123456\n');
  writeFileSync(
    join(root, 'memory', group.name, 'memory.oom_control'),
    'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n',
  );
  writeFileSync(join(root, 'memory', group.name, 'memory.max_usage_in_bytes'), '999\n');
  writeFileSync(join(root, 'pids', group.name, 'pids.events'), 'max 4\n');
  assert.deepEqual(group.usage(), { cpuNs: 123_456, maxMemoryBytes: 999, oomKills: 2, pidsRefused: 4 });
  const state = (): string => read('freezer', 'freezer.state');
  assert.equal(await group.freeze(), true);
  assert.equal(state(), 'FROZEN');
  group.thaw();
  assert.equal(state(), 'THAWED');
  await group.freeze();
  writeFileSync(join(root, 'pids', group.name, 'cgroup.procs'), '');
  group.kill();
  assert.equal(state(), 'THAWED', 'what is frozen does not die');
  const { freezer: _, ...others } = folders;
  assert.equal(await openCgroupsV1(others).create(null).freeze(), false, 'without that controller nobody is stopped');
});
