// Which protected paths the running commands of a workspace have as mounts, and how one that not all of them have is mounted all the
// same. bubblewrap mounts by path and follows links: one that another command can replace at that moment has it make, empty or
// mount files of the host. A path that is a mount of a command can be neither renamed nor removed by it; so while one
// is to be mounted that a running command has not, every command of the workspace stands still until the mounts are checked. Where
// they cannot be made to stand still their end is waited for, and a launch that waited in vain is refused.
import { QuernError } from '#kit/errors.ts';
import { SharedLock } from '../shared-lock.ts';
import { type MountBelow, mountsOf, presentProtected } from './launch-options.ts';
import { HOLD_WAIT_MS } from './limits.ts';
import type { SandboxCommand } from './sandbox.ts';

/** A command that may write to a workspace, from before its mounts are made to the end of its last process. */
export type Neighbour = {
  /** False: it cannot be made to stand still. Either way it is to be resumed. */
  pause(): Promise<boolean>;
  resume(): void;
};

export type HeldMounts = {
  /** Outer ones first. */
  readonly below: readonly MountBelow[];
  /** The mounts are made and checked: the others go on. */
  made(): void;
  /** Once no process of the command is left. */
  release(): void;
};

export type HoldOptions = {
  /** Ends the wait; hold() rejects with its reason. */
  readonly signal: AbortSignal;
  /** Called once, when others must end before it can go on. */
  readonly onHeldUp?: (() => void) | undefined;
  readonly waitMs?: number;
};

const NOTHING: HeldMounts = { below: [], made: () => {}, release: () => {} };

const busy = (path: string): QuernError =>
  new QuernError(
    'FAILED_PRECONDITION',
    `${path} is protected in this workspace, and another call of the session, which began before it was there, still runs and ` +
      'could replace it while this call is made ready; nothing of this call ran: wait until the other one has ended, or cancel it, ' +
      'then call again',
    { reason: 'PROTECTED_PATH_BUSY' },
  );

/** What one workspace's commands have as mounts. */
class Holdings {
  readonly #running = new Set<Neighbour>();
  /** Paths that every command has had as a mount since the first of them began: none of them can have replaced one. */
  #held: ReadonlySet<string> = new Set();
  /** One launch at a time decides, and goes on alone while others stand still. */
  readonly #turn = new SharedLock();
  #users = 0;
  #onEmpty: (() => void) | null = null;

  get isUsed(): boolean {
    return this.#users > 0;
  }

  async hold(
    workspace: NonNullable<SandboxCommand['workspace']>,
    own: Neighbour,
    options: HoldOptions,
  ): Promise<HeldMounts> {
    this.#users += 1;
    try {
      const letGo = await this.#turn.take({ alone: true, signal: options.signal });
      try {
        const stopped = await this.#makeSafe(workspace, options);
        // The look and the note of it are one step: between them no other command is begun.
        const present = presentProtected(workspace);
        const isFirst = this.#running.size === 0;
        this.#held = new Set(isFirst ? present : present.filter((path) => this.#held.has(path)));
        this.#running.add(own);
        return this.#holder(present, own, () => {
          for (const other of stopped) other.resume();
          letGo();
        });
      } catch (error) {
        letGo();
        throw error;
      }
    } catch (error) {
      this.#users -= 1;
      throw error;
    }
  }

  #holder(present: readonly string[], own: Neighbour, goOn: () => void): HeldMounts {
    let isMaking = true;
    let isHeld = true;
    const made = (): void => {
      if (isMaking) goOn();
      isMaking = false;
    };
    // Where nobody had to stand still the next launch need not wait for this one either: what it mounts stays in its place.
    if (present.every((path) => this.#held.has(path))) made();
    return {
      below: mountsOf(present),
      made,
      release: () => {
        made();
        if (!isHeld) return;
        isHeld = false;
        this.#users -= 1;
        this.#running.delete(own);
        if (this.#running.size === 0) this.#onEmpty?.();
      },
    };
  }

  /** Until nobody can replace a path that is there. Gives those who stand still for it. */
  async #makeSafe(
    workspace: NonNullable<SandboxCommand['workspace']>,
    { signal, onHeldUp, waitMs = HOLD_WAIT_MS }: HoldOptions,
  ): Promise<Neighbour[]> {
    const loose = (): string | undefined => presentProtected(workspace).find((path) => !this.#held.has(path));
    if (this.#running.size === 0 || loose() === undefined) return [];
    const others = [...this.#running];
    const paused = await Promise.all(others.map((other) => other.pause()));
    if (paused.every(Boolean) && !signal.aborted) return others;
    for (const other of others) other.resume();
    signal.throwIfAborted();
    onHeldUp?.();
    if (!(await this.#untilEmpty(waitMs, signal))) throw busy(loose() ?? 'a path');
    return [];
  }

  async #untilEmpty(waitMs: number, signal: AbortSignal): Promise<boolean> {
    if (this.#running.size === 0) return true;
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), waitMs);
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#onEmpty = () => resolve(true);
    try {
      return await promise;
    } finally {
      this.#onEmpty = null;
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }
}

/** By the path of the workspace; of commands that may write to it. */
const workspaces = new Map<string, Holdings>();

/**
 * The mounts that a command's protected paths get: of all that are there. Throws FAILED_PRECONDITION, reason PROTECTED_PATH_BUSY,
 * when one could be replaced while it is mounted; the signal's reason; and what the look at the paths throws.
 */
export async function holdMounts(
  { workspace }: SandboxCommand,
  own: Neighbour,
  options: HoldOptions,
): Promise<HeldMounts> {
  if (workspace === null || !workspace.writable) return NOTHING;
  const { path } = workspace;
  const holdings = workspaces.get(path) ?? new Holdings();
  workspaces.set(path, holdings);
  const forget = (): void => {
    if (!holdings.isUsed && workspaces.get(path) === holdings) workspaces.delete(path);
  };
  try {
    const held = await holdings.hold(workspace, own, options);
    return {
      ...held,
      release() {
        held.release();
        forget();
      },
    };
  } catch (error) {
    forget();
    throw error;
  }
}
