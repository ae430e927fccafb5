// cgroup v2: one tree. Source: Documentation/admin-guide/cgroup-v2.rst.
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
  removeGroup,
  removeSubtree,
  staleSubtrees,
  thawBy,
  untilFrozen,
} from './cgroups.ts';
import { CPU_CORES, CPU_PERIOD_US } from './limits.ts';
import { signalProcess } from './process-status.ts';

export const V2_REQUIRED = ['pids', 'memory', 'cpu'] as const;

function setLimits(place: string, { memoryBytes, pids }: CgroupLimits): void {
  const write = (file: string, value: string): void => writeFileSync(join(place, file), value);
  write('pids.max', String(pids));
  write('memory.max', String(memoryBytes));
  if (existsSync(join(place, 'memory.swap.max'))) write('memory.swap.max', '0');
  write('memory.oom.group', '1');
  write('cpu.max', `${CPU_CORES * CPU_PERIOD_US} ${CPU_PERIOD_US}`);
}

function groupAt(folder: string, name: string): Cgroup {
  const place = join(folder, name);
  const processes = (): number[] => readProcesses(join(place, 'cgroup.procs'));
  const cpuNs = (): number | null => {
    const usec = readKeyed(join(place, 'cpu.stat'), 'usage_usec');
    return usec === null ? null : usec * 1_000;
  };
  return {
    name,
    limit: (limits) => setLimits(place, limits),
    processes,
    attach: (pid) => writeFile(join(place, 'cgroup.procs'), String(pid)),
    kill() {
      try {
        writeFileSync(join(place, 'cgroup.kill'), '1');
      } catch {
        // Before Linux 5.14 there is no such file.
        forbidProcesses(place);
        for (const pid of processes()) signalProcess(pid, 'SIGKILL');
      }
    },
    freeze: () =>
      untilFrozen(
        () => writeFileSync(join(place, 'cgroup.freeze'), '1'),
        () => readKeyed(join(place, 'cgroup.events'), 'frozen') !== 0,
      ),
    thaw: () => thawBy(join(place, 'cgroup.freeze'), '0'),
    usage: () => ({
      cpuNs: cpuNs(),
      maxMemoryBytes: readNumber(join(place, 'memory.peak')),
      oomKills: readKeyed(join(place, 'memory.events'), 'oom_kill') ?? 0,
      pidsRefused: readKeyed(join(place, 'pids.events'), 'max') ?? 0,
    }),
    remove: () => removeGroup(place),
  };
}

/** Groups below a folder whose controllers are enabled for them and that this process may write. */
export function openCgroupsV2(folder: string): Cgroups {
  return {
    version: 2,
    detail: `cgroup v2 with ${V2_REQUIRED.join(', ')}`,
    create(limits) {
      const group = groupAt(folder, newGroupName());
      mkdirSync(join(folder, group.name));
      try {
        if (limits !== null) group.limit(limits);
      } catch (error) {
        group.remove().catch(() => {}); // the first mistake is the one to tell
        throw error;
      }
      return group;
    },
    async sweep() {
      let swept = 0;
      for (const name of staleSubtrees(dirname(folder))) {
        const stale = join(dirname(folder), name);
        for (const group of foldersIn(stale)) {
          groupAt(stale, group).kill();
          await groupAt(stale, group).remove();
          swept++;
        }
        await removeSubtree(stale);
      }
      return swept;
    },
  };
}
