// Control groups behind one small interface; cgroup-v1.ts and cgroup-v2.ts fill it. One group per run, below a folder
// that the service owns; that one's name says which process it belongs to, so that what a crash left behind is found again.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CGROUP_REMOVE_MAX_MS, CGROUP_REMOVE_RETRY_MS, FREEZE_MAX_MS, FREEZE_RETRY_MS } from './limits.ts';
import { isSameProcess, startTimeOf } from './process-status.ts';

export type CgroupLimits = { readonly memoryBytes: number; readonly pids: number };

export type CgroupUsage = {
  readonly cpuNs: number | null;
  readonly maxMemoryBytes: number | null;
  /** Processes that the kernel killed for memory. */
  readonly oomKills: number;
  /** Times that a new process or thread was refused. */
  readonly pidsRefused: number;
};

/** The processes of one run. */
export type Cgroup = {
  readonly name: string;
  /** Sets its limits; without them it only counts. */
  limit(limits: CgroupLimits): void;
  /** Puts a process in. What it starts from then on is born there. */
  attach(pid: number): Promise<void>;
  processes(): number[];
  /** Sends SIGKILL to every process in it, frozen or not, none of which can start another meanwhile. */
  kill(): void;
  /**
   * Stops every process in it; whoever calls this thaws it again, whatever the answer. False: not all stood still within
   * FREEZE_MAX_MS, or this machine cannot stop a group.
   */
  freeze(): Promise<boolean>;
  /** Lets them go on. Nothing happens when they were not frozen, or are gone. */
  thaw(): void;
  usage(): CgroupUsage;
  /** Settles when the group is gone. Rejects when it stays busy for CGROUP_REMOVE_MAX_MS. */
  remove(): Promise<void>;
};

export type Cgroups = {
  readonly version: 1 | 2;
  /** Where, and with which controllers. */
  readonly detail: string;
  /** An empty group; null: its limits come later. */
  create(limits: CgroupLimits | null): Cgroup;
  /** Kills and removes the groups of services that are gone; returns how many there were. */
  sweep(): Promise<number>;
};

/** Where the service may make groups, or why nowhere. */
export type CgroupsFound =
  | { readonly ok: true; readonly cgroups: Cgroups }
  | { readonly ok: false; readonly detail: string; readonly remedy: string };

/** Begins the name of a service's own part of a tree. */
const SUBTREE = 'quern-tools';

/** The name of this service's part: no other process and no later one of this number gives it. */
export function subtreeName(): string {
  return `${SUBTREE}-${process.pid}-${startTimeOf(process.pid) ?? 0}`;
}

/** Parts in a folder whose service is gone. */
export function staleSubtrees(folder: string): string[] {
  return foldersIn(folder).filter((name) => {
    const match = new RegExp(`^${SUBTREE}-(\\d+)-(\\d+)$`).exec(name);
    return match !== null && !isSameProcess(Number(match[1]), Number(match[2]));
  });
}

let made = 0;

/** The name of a run's group, within the service's part. */
export function newGroupName(): string {
  return `run-${made++}`;
}

export function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return [];
  }
}

/** The process numbers in a cgroup.procs file; none when the group is gone. */
export function readProcesses(path: string): number[] {
  return (readText(path) ?? '').split('\n').filter(Boolean).map(Number);
}

export function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/** A whole number alone in a file, or null. */
export function readNumber(path: string): number | null {
  const text = readText(path)?.trim() ?? '';
  return /^\d+$/.test(text) ? Number(text) : null;
}

/** The value of `key` in a file of "key value" lines, or null. */
export function readKeyed(path: string, key: string): number | null {
  const line = (readText(path) ?? '').split('\n').find((text) => text.startsWith(`${key} `));
  return line === undefined ? null : Number(line.slice(key.length + 1));
}

/** From here on no process of the group can start another: what is killed is not replaced. */
export function forbidProcesses(folder: string): void {
  try {
    writeFileSync(join(folder, 'pids.max'), '0');
  } catch {
    // The group is gone already.
  }
}

/** Asks for a group to be frozen until it is; false: not in time. A group that is gone holds nobody that moves. */
export async function untilFrozen(ask: () => void, isFrozen: () => boolean): Promise<boolean> {
  const deadline = performance.now() + FREEZE_MAX_MS;
  for (let delay = FREEZE_RETRY_MS; ; delay = Math.min(2 * delay, 20)) {
    try {
      ask(); // each time: a kill thaws, and must not be undone by that
      if (isFrozen()) return true;
    } catch (error) {
      return ['ENOENT', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '');
    }
    if (performance.now() > deadline) return false;
    await sleep(delay);
  }
}

export function thawBy(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch {
    // The group is gone, or could not be frozen either.
  }
}

/** Removes a group's folder, which the kernel calls busy for a while after its last process has ended. */
export async function removeGroup(folder: string): Promise<void> {
  const deadline = performance.now() + CGROUP_REMOVE_MAX_MS;
  for (let delay = CGROUP_REMOVE_RETRY_MS; ; delay = Math.min(2 * delay, 50)) {
    try {
      return await rmdir(folder);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY' || performance.now() > deadline) throw error;
    }
    await sleep(delay);
  }
}

/** Removes the folder of a service that is gone, where this account may; the next start as root does it else. */
export async function removeSubtree(folder: string): Promise<void> {
  await rmdir(folder).catch(() => {});
}
