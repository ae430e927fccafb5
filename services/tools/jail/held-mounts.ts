// Which protected paths the running commands of a workspace have as mounts. bubblewrap mounts by path and follows links: one that
// another command can replace at that moment has it make, empty or mount files of the host. A path that is a mount of a command can
// be neither renamed nor removed by it; so only what every running command of the workspace has mounted is mounted in the next.
import { type MountBelow, mountsOf, presentProtected } from './launch-options.ts';
import type { SandboxCommand } from './sandbox.ts';

export type HeldMounts = {
  /** Outer ones first. */
  readonly below: readonly MountBelow[];
  /** Once no process of the command is left. */
  release(): void;
};

/** By the path of the workspace; of commands that may write to it. No set is empty. */
const running = new Map<string, Set<ReadonlySet<string>>>();

/**
 * The mounts that a command's protected paths get. The look and the note of it are one step: between them no other command is
 * begun. Throws what the look at the paths throws.
 */
export function holdMounts({ workspace }: SandboxCommand): HeldMounts {
  if (workspace === null || !workspace.writable) return { below: [], release: () => {} };
  const { path } = workspace;
  const others = running.get(path) ?? new Set();
  const closed = presentProtected(workspace).filter((one) => [...others].every((held) => held.has(one)));
  const own: ReadonlySet<string> = new Set(closed);
  running.set(path, others.add(own));
  return {
    below: mountsOf(closed),
    release() {
      others.delete(own);
      if (others.size === 0 && running.get(path) === others) running.delete(path);
    },
  };
}
