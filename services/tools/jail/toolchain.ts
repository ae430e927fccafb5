// What programs a sandbox has: a root that becomes /usr, read-only, and interpreters by absolute path, since what a
// PATH finds may be a shim that leads out of it.
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { ReadOnlyBind } from './sandbox.ts';

export type Interpreter = 'bash' | 'python' | 'node';

export type Toolchain = {
  /** Becomes /usr. */
  readonly root: string;
  readonly binds: readonly ReadOnlyBind[];
  /** Paths inside the sandbox; null: there is none. */
  readonly interpreters: Readonly<Record<Interpreter, string | null>>;
};

const NODE_INSIDE = '/opt/node';

/** The path inside of the first of some programs that the root has; a link must stay within it. */
function firstIn(root: string, names: readonly string[]): string | null {
  for (const name of names) {
    const path = join(root, 'bin', name);
    if (existsSync(path) && realpathSync(path).startsWith(`${realpathSync(root)}/`)) return `/usr/bin/${name}`;
  }
  return null;
}

/**
 * The toolchain below `root` (default: the host's /usr). Node comes from there, else it is this very program, which is
 * bound in alone.
 */
export function findToolchain(options: { readonly root?: string; readonly node?: string | null } = {}): Toolchain {
  const { root = '/usr', node = process.execPath } = options;
  const ownNode = firstIn(root, ['node', 'nodejs']);
  const bound = ownNode === null && node !== null && existsSync(node);
  return {
    root,
    binds: bound ? [{ from: realpathSync(node), to: NODE_INSIDE }] : [],
    interpreters: {
      bash: firstIn(root, ['bash']),
      python: firstIn(root, ['python3']),
      node: ownNode ?? (bound ? NODE_INSIDE : null),
    },
  };
}
