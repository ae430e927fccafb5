// Launches that a crashed service left behind. bubblewrap's child waits, before it can ask to die with its parent, for a
// word that a parent killed in that moment never says; it has run nothing and never will, but it stays.
import { readdirSync, readlinkSync } from 'node:fs';
import { readText } from './cgroups.ts';
import { BWRAP_ARGUMENTS } from './launch.ts';
import { signalProcess } from './process-status.ts';

const SIGNATURE = BWRAP_ARGUMENTS.join('\0');

function isOurLaunch(pid: number): boolean {
  const commandLine = readText(`/proc/${pid}/cmdline`) ?? '';
  return commandLine.slice(commandLine.indexOf('\0') + 1).startsWith(`${SIGNATURE}\0`);
}

function programOf(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return null; // gone, or another account's
  }
}

/** True when the process was started by a tool service that lives: this program, or a launch of it in turn. */
function hasOwner(pid: number): boolean {
  const parent = Number(/^PPid:\s*(\d+)/m.exec(readText(`/proc/${pid}/status`) ?? '')?.[1] ?? 0);
  return parent !== process.pid && (isOurLaunch(parent) || programOf(parent) === process.execPath);
}

/** Kills them; for the start of a service, when it has launched nothing yet. Returns how many there were. */
export function killStaleLaunches(): number {
  const stale = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => isOurLaunch(pid) && !hasOwner(pid));
  return stale.filter((pid) => signalProcess(pid, 'SIGKILL')).length;
}
