// What the alerts need to know of the machine and of this process, beside prom-client's own series. Linux; elsewhere, and
// where /proc is hidden, a series that cannot be read is absent.
import { readdir, readFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import type { Metrics } from './metrics.ts';

/** A file of /proc, or null. */
async function readProc(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}

/** Bytes of one line of /proc/meminfo ("MemAvailable:  123 kB"). */
export function memoryOf(meminfo: string, name: string): number | null {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(meminfo);
  return match ? Number(match[1]) * 1024 : null;
}

/** Children of this process that have ended and were not collected; null where the kernel does not list children. */
export async function zombieChildren(proc = '/proc', self: number | string = 'self'): Promise<number | null> {
  const threads = await readdir(`${proc}/${self}/task`).catch(() => null);
  if (!threads) return null;
  const lists = await Promise.all(threads.map((thread) => readProc(`${proc}/${self}/task/${thread}/children`)));
  if (lists.every((list) => list === null)) return null;
  const children = lists.flatMap((list) => list?.split(' ').filter((pid) => /^\d+$/.test(pid)) ?? []);
  const stats = await Promise.all(children.map((pid) => readProc(`${proc}/${pid}/stat`)));
  // Field 3, behind the name in brackets, which may hold anything.
  return stats.filter((stat) => stat?.slice(stat.lastIndexOf(')') + 2).startsWith('Z')).length;
}

/** Adds quern_host_* and quern_process_* to a process's metrics. */
export function watchHost(metrics: Metrics): void {
  metrics.gauge({
    name: 'quern_host_load1',
    help: 'Runnable and waiting processes of the machine, averaged over one minute',
    collect: (set) => set(loadavg()[0] as number),
  });
  metrics.gauge({
    name: 'quern_host_cpus',
    help: 'CPUs that this process may use',
    collect: (set) => set(availableParallelism()),
  });
  metrics.gauge({
    name: 'quern_host_memory_bytes',
    help: 'Memory of the machine: all of it, and what is available to new work',
    labels: ['kind'],
    async collect(set) {
      const meminfo = (await readProc('/proc/meminfo')) ?? '';
      for (const [kind, name] of Object.entries({ total: 'MemTotal', available: 'MemAvailable' })) {
        const bytes = memoryOf(meminfo, name);
        if (bytes !== null) set(bytes, { kind });
      }
    },
  });
  metrics.gauge({
    name: 'quern_process_zombie_children',
    help: 'Children of this process that have ended and were not collected; must be 0',
    async collect(set) {
      const count = await zombieChildren();
      if (count !== null) set(count);
    },
  });
}
