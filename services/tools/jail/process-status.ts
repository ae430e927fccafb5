// What /proc says of a process: enough to know it again after its number was given to another.
import { readFileSync } from 'node:fs';

/** Clock ticks from boot to the start of a process, or null when there is none with this number. */
export function startTimeOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Field 22; the name, field 2, may hold spaces and brackets.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : Number(fields[19]);
  } catch {
    return null;
  }
}

/** True while the process that had this number at that time lives. */
export function isSameProcess(pid: number, startTime: number): boolean {
  return startTimeOf(pid) === startTime;
}

/** True when a process has a system call filter that this one has not. */
export function hasOwnFilter(pid: number): boolean {
  const own = filters('self');
  const its = filters(pid);
  if (own.count === null || its.count === null) return its.isOn; // before Linux 5.9 they are not counted
  return its.count > own.count;
}

function filters(pid: number | 'self'): { isOn: boolean; count: number | null } {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const count = /^Seccomp_filters:\s*(\d+)$/m.exec(status)?.[1];
    return { isOn: /^Seccomp:\s*2$/m.test(status), count: count === undefined ? null : Number(count) };
  } catch {
    return { isOn: false, count: null };
  }
}

/** The processes that a process's main thread has started and that live. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Sends a signal; false when the process is gone. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
