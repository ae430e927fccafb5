// The modules of this service's threads and the compile cache. A thread that finds no compiled form of a module takes its types
// away itself, and so holds a compiler: some 16 MiB more in each. The threads start when root was given up, and the account that
// they have may read the cache and not write to it.
import { chmod, readdir, stat, symlink } from 'node:fs/promises';
import { flushCompileCache, getCompileCacheDir } from 'node:module';
import { basename, dirname, join } from 'node:path';

/** Folders of root's that nobody else may write to: nothing in them was put there by somebody else. */
async function isRoots(folder: string): Promise<boolean> {
  const { uid, mode } = await stat(folder);
  return uid === 0 && (mode & 0o022) === 0;
}

/** Node keeps a cache for each user, in a folder whose name ends with the user's number, for the user's eyes only. */
async function letRead(cache: string, uid: number): Promise<void> {
  const suffix = '-0';
  if (!cache.endsWith(suffix) || !(await isRoots(dirname(cache))) || !(await isRoots(cache))) return;
  await symlink(basename(cache), `${cache.slice(0, -suffix.length)}-${uid}`).catch(() => {}); // it is there since the last start
  await chmod(cache, 0o755);
  // Settled, all of them: others may write to the cache and rename their files, and what is still to do would be done without root.
  await Promise.allSettled((await readdir(cache)).map((name) => chmod(join(cache, name), 0o644)));
}

/** What only some calls need. Loaded by the service itself it would hold memory that nobody uses. */
const loadRest = () =>
  Promise.all([
    import('#kit/rpc/descriptor-image.ts'),
    import('./mcp/call-answer.ts'),
    import('./mcp/connection.ts'),
    import('./mcp/http-link.ts'),
    import('./mcp/sandbox-link.ts'),
  ]);

const loadThreads = () => Promise.all([import('./schema-thread.ts'), import('./builtin/eval-thread.ts')]); // here they do nothing

/** Compiles all modules and keeps that, for a process of its own. */
export async function compileAll(): Promise<void> {
  await Promise.all([loadThreads(), loadRest()]);
  flushCompileCache();
}

/**
 * Compiles what the threads load and keeps it, where there is a cache, for the account `uid` that root becomes; as the account that
 * owns the cache. A cache that cannot be shared costs memory and nothing else.
 */
export async function compileThreads(uid: number): Promise<void> {
  const cache = getCompileCacheDir();
  if (!cache) return;
  await loadThreads();
  flushCompileCache();
  await letRead(cache, uid).catch(() => {});
}

/** The environment of a thread: nothing but where the cache is. */
export function threadEnv(): Record<string, string> {
  const cache = getCompileCacheDir(); // of this version of Node and its flags, inside of what NODE_COMPILE_CACHE names
  return cache ? { NODE_COMPILE_CACHE: dirname(cache) } : {};
}
