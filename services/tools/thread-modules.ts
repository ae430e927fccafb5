// The modules of this service's threads and the compile cache. A thread that finds no compiled form of a module takes its types
// away itself, and so holds a compiler: some 16 MiB more in each. The threads start when root was given up, and the account that
// they have may read the cache and not write to it.
import { chmod, readdir, symlink } from 'node:fs/promises';
import { flushCompileCache, getCompileCacheDir } from 'node:module';
import { basename, dirname, join } from 'node:path';

/** Node keeps a cache for each user, in a folder whose name ends with the user's number, for the user's eyes only. */
async function letRead(cache: string, uid: number): Promise<void> {
  const suffix = '-0';
  if (!cache.endsWith(suffix)) return;
  await symlink(basename(cache), `${cache.slice(0, -suffix.length)}-${uid}`).catch(() => {}); // it is there since the last start
  await Promise.all((await readdir(cache)).map((name) => chmod(join(cache, name), 0o644)));
}

/**
 * Compiles what the threads load and keeps it, where there is a cache, for the account `uid` that root becomes; as the account that
 * owns the cache. Null: for nobody else. A cache that cannot be shared costs memory and nothing else.
 */
export async function compileThreads(uid: number | null): Promise<void> {
  const cache = getCompileCacheDir();
  if (!cache) return;
  await Promise.all([import('./schema-thread.ts'), import('./builtin/eval-thread.ts')]); // they do nothing in the main thread
  flushCompileCache();
  if (uid !== null) await letRead(cache, uid).catch(() => {});
}

/** The environment of a thread: nothing but where the cache is. */
export function threadEnv(): Record<string, string> {
  const cache = getCompileCacheDir(); // of this version of Node and its flags, inside of what NODE_COMPILE_CACHE names
  return cache ? { NODE_COMPILE_CACHE: dirname(cache) } : {};
}
