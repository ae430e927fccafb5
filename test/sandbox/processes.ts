/** What runs on this machine, as far as sandboxes are concerned. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from '../../services/tools/jail/cgroups.ts';
import { isSameProcess, startTimeOf } from '../../services/tools/jail/process-status.ts';

/** A process that is known again when its number was given to another. */
export type Process = { readonly pid: number; readonly startTime: number };

/** Every process below one, such as all that the sandboxes of a host hold; zombies left out. */
export function descendants(pid: number): Process[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It ended meanwhile.
    }
  }
  const isBelow = (child: number): boolean => {
    const parent = parents.get(child);
    return parent === pid || (parent !== undefined && parent > 1 && isBelow(parent));
  };
  return [...parents.keys()]
    .filter((child) => isBelow(child) && startTimeOf(child) !== null)
    .map((child) => ({ pid: child, startTime: startTimeOf(child) ?? -1 }));
}

/** How many of them live. */
export const alive = (list: readonly Process[]): number =>
  list.filter(({ pid, startTime }) => isSameProcess(pid, startTime)).length;

/** Sandboxes whose maker is gone: bubblewrap's processes that neither it nor a Node has started. */
function orphans(): number[] {
  const nameOf = (pid: number): string => readText(`/proc/${pid}/comm`)?.trim() ?? '';
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && nameOf(Number(entry)) === 'bwrap' && startTimeOf(Number(entry)) !== null)
    .map(Number)
    .filter((pid) => {
      const parent = Number(/^PPid:\s*(\d+)/m.exec(readText(`/proc/${pid}/status`) ?? '')?.[1]);
      return !['bwrap', 'node', 'MainThread'].includes(nameOf(parent));
    });
}

/** One that was just killed may be seen between its parent's end and its own: only what stays is left over. */
export async function untilNoOrphans(): Promise<void> {
  for (const until = performance.now() + 20_000; orphans().length > 0 && performance.now() < until; ) await sleep(10);
  assert.deepEqual(orphans(), [], 'sandboxes whose maker is gone');
}
