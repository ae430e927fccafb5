// Descriptors that this process inherited without close-on-exec would travel through bubblewrap into every command.
import { closeSync, readdirSync } from 'node:fs';
import { readText } from './cgroups.ts';

const O_CLOEXEC = 0o2000000;

/** Closes every descriptor above stderr that a child would inherit; returns their numbers. Once, at service start. */
export function closeStrayDescriptors(): number[] {
  const closed: number[] = [];
  for (const name of readdirSync('/proc/self/fdinfo')) {
    const fd = Number(name);
    const flags = /^flags:\s*([0-7]+)/m.exec(readText(`/proc/self/fdinfo/${name}`) ?? '')?.[1];
    if (fd < 3 || flags === undefined || (Number.parseInt(flags, 8) & O_CLOEXEC) !== 0) continue;
    try {
      closeSync(fd);
      closed.push(fd);
    } catch {
      // It was the one through which this folder was read.
    }
  }
  return closed;
}
