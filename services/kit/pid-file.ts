// For children without an ipc channel (nats-server, Jaeger): they survive a killed supervisor, so their pid is written
// down and the next start ends what is left.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The program a process runs, or null where /proc does not tell (then the process is left alone). */
async function programOf(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => null);
  return text === null || text === '' ? null : basename(text.split('\0')[0]!);
}

export async function writePidFile(path: string, pid: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFile(path, `${pid}\n`, { mode: 0o600 });
}

export async function removePidFile(path: string): Promise<void> {
  await rm(path, { force: true });
}

/**
 * Ends the process that `path` names when it still runs `command`: SIGTERM, after the grace SIGKILL. A recycled pid
 * that runs another program is left alone. Answers the pid it ended, or null.
 */
export async function sweepPidFile(path: string, command: string, graceMs: number): Promise<number | null> {
  const text = await readFile(path, 'utf8').catch(() => null);
  const pid = Number(text?.trim());
  await removePidFile(path);
  if (text === null || !Number.isInteger(pid) || pid <= 1 || !alive(pid)) return null;
  if ((await programOf(pid)) !== basename(command)) return null;
  process.kill(pid, 'SIGTERM');
  const untilMs = performance.now() + graceMs;
  while (alive(pid) && performance.now() < untilMs) await sleep(20);
  if (alive(pid)) process.kill(pid, 'SIGKILL');
  return pid;
}
