// Launches that a crashed service left behind. bubblewrap's child waits, before it can ask to die with its parent, for a
// word that a parent killed in that moment never says; it has run nothing and never will, but it stays.
import { readdirSync } from 'node:fs';
import { isInLivingSubtree, readText } from './cgroups.ts';
import { BWRAP_ARGUMENTS } from './launch.ts';
import { signalProcess } from './process-status.ts';

/** The part that launches of other versions of the service have as well. */
const SIGNATURE = BWRAP_ARGUMENTS.slice(0, 4).join('\0');

function isOurLaunch(pid: number): boolean {
  const commandLine = readText(`/proc/${pid}/cmdline`) ?? '';
  return commandLine.slice(commandLine.indexOf('\0') + 1).startsWith(`${SIGNATURE}\0`);
}

const nameOf = (pid: number | 'self'): string | null => readText(`/proc/${pid}/comm`);

/**
 * True when the process was started by a tool service that lives: its cgroup is that one's, or its parent is a program of this
 * one's name, or a launch of such a one in turn. More cannot be told of a process that gave root up: the kernel hides what it
 * runs from its own account.
 */
function hasOwner(pid: number): boolean {
  if (isInLivingSubtree(readText(`/proc/${pid}/cgroup`) ?? '')) return true;
  const parent = Number(/^PPid:\s*(\d+)/m.exec(readText(`/proc/${pid}/status`) ?? '')?.[1] ?? 0);
  if (isOurLaunch(parent)) return hasOwner(parent); // one whose own owner is gone may be about to end, and would leave this one
  return parent !== process.pid && nameOf(parent) === nameOf('self');
}

/** Kills them; for the start of a service, when it has launched nothing yet. Returns how many there were. */
export function killStaleLaunches(): number {
  const stale = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => isOurLaunch(pid) && !hasOwner(pid));
  return stale.filter((pid) => signalProcess(pid, 'SIGKILL')).length;
}
