// A lock between processes that set up the same checkout, or build into the same folder: a file that names its owner.
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDir } from './paths.mjs';
import { say } from './steps.mjs';

/** Holds `name` while `action` runs; waits while another live process holds it. */
export async function withLock(name, action, { dir = cacheDir } = {}) {
  const path = join(dir, 'locks', `${name}.lock`);
  mkdirSync(dirname(path), { recursive: true });
  for (let waits = 0; !(await tryLock(path)); waits++) {
    if (waits === 0) say(`${name}: waiting for process ${readOwner(path).split(' ')[0]}, which does the same here`);
    await sleep(200);
  }
  try {
    return await action();
  } finally {
    rmSync(path, { force: true });
  }
}

async function tryLock(path) {
  const self = identify(process.pid);
  const own = `${path}.${process.pid}`;
  writeFileSync(own, self);
  try {
    linkSync(own, path); // unlike creating the file, this never shows a lock without its owner
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  } finally {
    rmSync(own, { force: true });
  }
  const owner = readOwner(path);
  if (owner === '' || identify(owner.split(' ')[0]) === owner) return false;
  // Its owner died. Of several that take it over at once, the last to rename keeps it.
  writeFileSync(own, self);
  renameSync(own, path);
  await sleep(50);
  return readOwner(path) === self;
}

/** "pid start-time", so that a process that got a dead owner's pid is not taken for it; '' when there is no such pid. */
function identify(pid) {
  try {
    const afterName = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ');
    return `${pid} ${afterName[19]}`; // starttime, field 22 of proc(5)
  } catch {
    return '';
  }
}

function readOwner(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // released in this moment
  }
}
