// The service gives up root before it does anything else: a sandbox started with host uid 0 could still write what
// belongs to root on the host, whatever its namespaces and capabilities say.
import { accessSync, chmodSync, chownSync, constants, existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import { type Owner, prepareCgroups } from './cgroup-subtree.ts';
import type { CgroupsFound } from './cgroups.ts';
import { UNPRIVILEGED_ID } from './limits.ts';

/** The calls of `process` that change who it is; tests give their own. */
export type Identity = {
  getuid(): number;
  setgroups(groups: readonly number[]): void;
  setgid(id: number): void;
  setuid(id: number): void;
};

export type UnprivilegedStart = { readonly uid: number; readonly cgroups: CgroupsFound };

const self = process as unknown as Identity;

/** Root's other groups first: an account without root cannot leave them any more. */
function become(uid: number, identity: Identity): void {
  try {
    identity.setgroups([]);
    identity.setgid(uid);
    identity.setuid(uid);
  } catch (cause) {
    throw new QuernError(
      'FAILED_PRECONDITION',
      `tools never run as root, and this process cannot become account ${uid}: ${(cause as Error).message}; ` +
        'in a container without that account name one that it has, or start it as another account than root',
      { reason: 'SANDBOX_UNAVAILABLE' },
      { cause },
    );
  }
}

/** Makes a folder 0700, and those above it that are missing. Made by root these are 0755, or the account could not enter its own. */
function makeFolder(folder: string, parentMode: number): void {
  const missing: string[] = [];
  for (let above = dirname(folder); !existsSync(above); above = dirname(above)) missing.unshift(above);
  for (const above of missing) {
    mkdirSync(above);
    chmodSync(above, parentMode); // whatever the umask
  }
  mkdirSync(folder, { recursive: true, mode: 0o700 });
}

/** The account's own look: what is above a folder may keep it out. */
function checkAccess(folder: string, uid: number): void {
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new QuernError(
      'FAILED_PRECONDITION',
      `account ${uid} cannot use ${folder}: expected folders above it that others may enter (chmod o+x), or another folder`,
      { reason: 'SANDBOX_UNAVAILABLE' },
      { cause },
    );
  }
}

/** Threads and processes that the service starts later read its files as this account. */
function checkOwnFiles(uid: number): void {
  try {
    accessSync(process.execPath, constants.X_OK);
    accessSync(import.meta.filename, constants.R_OK);
  } catch (cause) {
    throw new QuernError(
      'FAILED_PRECONDITION',
      `account ${uid}, under which tools run, cannot read ${(cause as NodeJS.ErrnoException).path ?? 'Quern'}: ` +
        'expected files that others may read, below folders that others may enter, such as /opt or /srv, not the home of root; ' +
        'quern up needs no such folders where root may mount (CAP_SYS_ADMIN)',
      { reason: 'SANDBOX_UNAVAILABLE' },
      { cause },
    );
  }
}

/**
 * The first step of the service, before it listens or opens anything. As root: makes the cgroup subtree and `folders`,
 * gives both to `uid` (default UNPRIVILEGED_ID) and becomes it, with no supplementary group and no way back. As anyone
 * else: only looks for a subtree that it may use. Throws FAILED_PRECONDITION when the process is still root afterwards, or may not
 * use one of the folders, or cannot read the service's own files.
 */
export function giveUpRoot(options: {
  readonly folders: readonly string[];
  readonly uid?: number | null;
  readonly identity?: Identity;
  readonly prepare?: (owner: Owner) => CgroupsFound;
}): UnprivilegedStart {
  const { folders, identity = self, prepare = prepareCgroups } = options;
  const uid = options.uid ?? UNPRIVILEGED_ID;
  if (uid === 0) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      'expected the number of an unprivileged account for tools, got 0; name one that owns nothing',
    );
  }
  const isRoot = identity.getuid() === 0;
  for (const folder of folders) {
    makeFolder(folder, isRoot ? 0o755 : 0o700);
    if (isRoot) chownSync(folder, uid, uid);
  }
  const cgroups = prepare(isRoot ? { uid, gid: uid } : null);
  if (isRoot) become(uid, identity);
  if (identity.getuid() === 0) {
    throw new QuernError(
      'FAILED_PRECONDITION',
      'tools never run as root, and this process could not give it up; start it as another account',
      { reason: 'SANDBOX_UNAVAILABLE' },
    );
  }
  for (const folder of folders) checkAccess(folder, identity.getuid());
  checkOwnFiles(identity.getuid());
  return { uid: identity.getuid(), cgroups };
}
