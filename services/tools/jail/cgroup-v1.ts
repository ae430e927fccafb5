// cgroup v1: one hierarchy per controller, so a group is a folder in each of them.
// Source: Documentation/admin-guide/cgroup-v1/{memory,pids,cpuacct,freezer-subsystem}.rst.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type Cgroup,
  type CgroupLimits,
  type Cgroups,
  foldersIn,
  forbidProcesses,
  newGroupName,
  readKeyed,
  readNumber,
  readProcesses,
  readText,
  removeGroup,
  removeSubtree,
  staleSubtrees,
  thawBy,
  untilFrozen,
} from './cgroups.ts';
import { CPU_CORES, CPU_PERIOD_US } from './limits.ts';
import { signalProcess } from './process-status.ts';

/** The first three must be there; cpuacct, often mounted with cpu, counts CPU time; freezer stops and lets go on. */
export const V1_CONTROLLERS = ['pids', 'memory', 'cpu', 'cpuacct', 'freezer'] as const;
export type V1Controller = (typeof V1_CONTROLLERS)[number];
export const V1_REQUIRED: readonly V1Controller[] = ['pids', 'memory', 'cpu'];

/** The service's own folder in each hierarchy; several controllers may share one. */
export type V1Folders = Readonly<Partial<Record<V1Controller, string>>>;

function setLimits(folders: V1Folders, name: string, { memoryBytes, pids }: CgroupLimits): void {
  const write = (controller: V1Controller, file: string, value: number): void =>
    writeFileSync(join(folders[controller]!, name, file), String(value));
  write('pids', 'pids.max', pids);
  write('memory', 'memory.limit_in_bytes', memoryBytes);
  // Absent where the kernel does not account swap; then swap is not used either once swappiness is 0.
  if (existsSync(join(folders.memory!, name, 'memory.memsw.limit_in_bytes'))) {
    write('memory', 'memory.memsw.limit_in_bytes', memoryBytes);
  } else {
    write('memory', 'memory.swappiness', 0);
  }
  write('cpu', 'cpu.cfs_period_us', CPU_PERIOD_US);
  write('cpu', 'cpu.cfs_quota_us', CPU_CORES * CPU_PERIOD_US);
}

function groupAt(folders: V1Folders, name: string): Cgroup {
  const places = [...new Set(Object.values(folders))].map((folder) => join(folder, name));
  const file = (controller: V1Controller, leaf: string): string => join(folders[controller] ?? '', name, leaf);
  const processes = (): number[] => readProcesses(file('pids', 'cgroup.procs'));
  const cpuNs = (): number | null => (folders.cpuacct ? readNumber(file('cpuacct', 'cpuacct.usage')) : null);
  const state = folders.freezer === undefined ? null : file('freezer', 'freezer.state');
  const thaw = (): void => {
    if (state !== null) thawBy(state, 'THAWED');
  };
  return {
    name,
    limit: (limits) => setLimits(folders, name, limits),
    processes,
    async attach(pid) {
      // The first write waits in the kernel for some ms (an RCU grace period), the others find that done.
      const [first, ...others] = places.map((place) => join(place, 'cgroup.procs'));
      await writeFile(first!, String(pid));
      for (const file of others) writeFileSync(file, String(pid));
    },
    kill() {
      forbidProcesses(join(folders.pids!, name));
      for (const pid of processes()) signalProcess(pid, 'SIGKILL');
      thaw(); // a frozen process dies when it is let go on, and does nothing before that
    },
    freeze: async () =>
      state !== null &&
      (await untilFrozen(
        () => writeFileSync(state, 'FROZEN'),
        () => (readText(state)?.trim() ?? 'FROZEN') === 'FROZEN',
      )),
    thaw,
    usage: () => ({
      cpuNs: cpuNs(),
      maxMemoryBytes: readNumber(file('memory', 'memory.max_usage_in_bytes')),
      oomKills: readKeyed(file('memory', 'memory.oom_control'), 'oom_kill') ?? 0,
      pidsRefused: readKeyed(file('pids', 'pids.events'), 'max') ?? 0,
    }),
    async remove() {
      await Promise.all(places.map(removeGroup));
    },
  };
}

/** Groups below folders that exist and that this process may write. */
export function openCgroupsV1(folders: V1Folders): Cgroups {
  const places = [...new Set(Object.values(folders))];
  return {
    version: 1,
    detail: `cgroup v1 with ${Object.keys(folders).join(', ')}`,
    create(limits) {
      const name = newGroupName();
      const group = groupAt(folders, name);
      try {
        for (const place of places) mkdirSync(join(place, name));
        if (limits !== null) group.limit(limits);
      } catch (error) {
        group.remove().catch(() => {}); // the first mistake is the one to tell
        throw error;
      }
      return group;
    },
    async sweep() {
      let swept = 0;
      const parents = new Set(places.map((place) => dirname(place)));
      for (const name of new Set([...parents].flatMap(staleSubtrees))) {
        const stale = Object.fromEntries(
          Object.entries(folders).map(([controller, place]) => [controller, join(dirname(place), name)]),
        );
        const left = Object.values(stale);
        for (const group of new Set(left.flatMap(foldersIn))) {
          groupAt(stale, group).kill();
          await groupAt(stale, group).remove();
          swept++;
        }
        await Promise.all([...new Set(left)].map(removeSubtree));
      }
      return swept;
    },
  };
}
