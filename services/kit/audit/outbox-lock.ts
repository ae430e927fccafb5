// One writer per outbox: a lock file with the pid and start time of its holder. A dead holder's lock is taken over.
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { QuernError } from '#kit/errors.ts';

/** Clock ticks since boot at which a process started (proc(5), field 22), or null when it is not there. */
async function startTicks(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

async function holderOf(path: string): Promise<{ pid: number; alive: boolean } | null> {
  const text = await readFile(path, 'utf8').catch(() => null);
  if (text === null) return null;
  const [pid = '', ticks = ''] = text.trim().split(' ');
  const now = await startTicks(Number(pid));
  return { pid: Number(pid), alive: now !== null && now === ticks };
}

/** Takes the lock of `dir`; the answer gives it back. Throws FAILED_PRECONDITION while another process holds it. */
export async function lockOutbox(dir: string): Promise<() => Promise<void>> {
  const path = join(dir, 'lock');
  const own = `${process.pid} ${await startTicks(process.pid)}\n`;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const file = await open(path, 'wx', 0o600);
      await file.writeFile(own);
      await file.close();
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = await holderOf(path);
    if (holder?.alive || attempt >= 3) {
      const message =
        `${dir} is in use by process ${holder?.pid ?? '?'}; expected one writer per audit outbox: stop it or set another ` +
        'folder';
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'AUDIT_OUTBOX_LOCKED' });
    }
    await rm(path, { force: true });
  }
}
