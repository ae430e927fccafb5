// The service gives up root before it does anything else: a sandbox started with host uid 0 could still write what
// belongs to root on the host, whatever its namespaces and capabilities say.
import { chownSync, mkdirSync } from 'node:fs';
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

/**
 * The first step of the service, before it listens or opens anything. As root: makes the cgroup subtree and `folders`,
 * gives both to `uid` (default UNPRIVILEGED_ID) and becomes it, with no supplementary group and no way back. As anyone
 * else: only looks for a subtree that it may use. Throws FAILED_PRECONDITION when the process is still root afterwards.
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
    mkdirSync(folder, { recursive: true, mode: 0o700 });
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
  return { uid: identity.getuid(), cgroups };
}
