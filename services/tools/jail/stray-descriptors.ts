// Descriptors that this process inherited without close-on-exec would travel through bubblewrap into every command.
import { closeSync, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from './cgroups.ts';
import { STRAY_FILE_LOOK_MS, STRAY_FILE_WAIT_MS } from './limits.ts';

const O_CLOEXEC = 0o2000000;

type Stray = { fd: number; isFile: boolean };

/** Descriptors above stderr that a child would inherit. */
function strayDescriptors(): Stray[] {
  return readdirSync('/proc/self/fdinfo').flatMap((name) => {
    const fd = Number(name);
    const flags = /^flags:\s*([0-7]+)/m.exec(readText(`/proc/self/fdinfo/${name}`) ?? '')?.[1];
    if (fd < 3 || flags === undefined || (Number.parseInt(flags, 8) & O_CLOEXEC) !== 0) return [];
    return [{ fd, isFile: isFile(fd) }];
  });
}

function isFile(fd: number): boolean {
  try {
    return lstatSync(readlinkSync(`/proc/self/fd/${fd}`)).isFile();
  } catch {
    return false; // a pipe, a socket, a file that was removed
  }
}

/**
 * Closes every descriptor above stderr that a child would inherit; returns their numbers. Once, at service start.
 *
 * A file gets a moment to go by itself: Node reads NODE_EXTRA_CA_CERTS in a thread of its own, through a descriptor without
 * close-on-exec, and closing it under that thread would have the thread close whatever has its number next.
 */
export async function closeStrayDescriptors({ signal }: { signal: AbortSignal }): Promise<number[]> {
  const untilMs = performance.now() + STRAY_FILE_WAIT_MS;
  while (performance.now() < untilMs && strayDescriptors().some(({ isFile }) => isFile)) {
    await sleep(STRAY_FILE_LOOK_MS, undefined, { signal });
  }
  const closed: number[] = [];
  for (const { fd } of strayDescriptors()) {
    try {
      closeSync(fd);
      closed.push(fd);
    } catch {
      // It was the one through which the folder was read.
    }
  }
  return closed;
}
