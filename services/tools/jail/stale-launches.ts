// Launches that a crashed service left behind. bubblewrap's child waits, before it can ask to die with its parent, for a
// word that a parent killed in that moment never says; it has run nothing and never will, but it stays.
import { readdirSync, readlinkSync } from 'node:fs';
import { readText } from './cgroups.ts';
import { signalProcess, startTimeOf } from './process-status.ts';

const NAME = 'quern-launch';

/** Numbers of processes mean something within one of these. */
function pidNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';
  } catch {
    return '0';
  }
}

/**
 * What a launch is called (its argv[0], which its child has as well), for whose it is: a service's number and start time, with the
 * namespace in which the number holds. Its parent does not tell: that of an orphan may be anything, also a Node.
 */
export function launchMark(pid: number, startTime: number): string {
  return `${NAME}.${pidNamespace()}.${pid}.${startTime}`;
}

let own: string | null = null;

/** The mark of this process's launches. */
export function ownLaunchMark(): string {
  own ??= launchMark(process.pid, startTimeOf(process.pid) ?? 0);
  return own;
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** False also for a process of which nothing can be told: /proc may hide it. */
function isGone(pid: number, startTime: number): boolean {
  const now = startTimeOf(pid);
  if (now !== null) return now !== startTime;
  return !exists(pid) || readText(`/proc/${pid}/stat`) !== null; // the latter has ended, and waits to be heard of
}

/** True for a launch of a service of this namespace that is gone. */
function isStale(pid: number): boolean {
  const name = (readText(`/proc/${pid}/cmdline`) ?? '').split('\0', 1)[0]!;
  const [, namespace, owner, startTime] = new RegExp(`^${NAME}\\.(\\d+)\\.(\\d+)\\.(\\d+)$`).exec(name) ?? [];
  return namespace === pidNamespace() && isGone(Number(owner), Number(startTime));
}

/** Kills them; for the start of a service. Returns how many there were. */
export function killStaleLaunches(): number {
  const pids = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return pids.filter((pid) => isStale(pid) && signalProcess(pid, 'SIGKILL')).length;
}
