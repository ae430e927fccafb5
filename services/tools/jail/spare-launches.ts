// Launches made ahead: a bubblewrap that waits for its options, in a cgroup of its own. Starting a process and moving it into
// a cgroup take longer than all the rest of a launch; here they are done while nobody waits for them. Each serves one
// command, as any launch does, and holds nothing of any: its limits, mounts and filter come with the command.
import type { Log } from '#kit/log.ts';
import type { Cgroup, Cgroups } from './cgroups.ts';
import { type Launch, launch } from './launch.ts';
import { SPARE_FILL_MS, SPARE_LAUNCHES } from './limits.ts';

/** A bubblewrap that waits; what it starts is born in the cgroup. */
export type ReadyLaunch = { readonly launch: Launch; readonly cgroup: Cgroup | null };

export type LaunchMaker = {
  readonly bwrap: string;
  /** Null: tier A-, limits per process only. */
  readonly cgroups: Cgroups | null;
  readonly log: Log;
};

/** Ends a launch that serves no command. Never rejects. */
async function discard({ launch, cgroup }: ReadyLaunch, log: Log): Promise<void> {
  launch.program.kill('SIGKILL'); // it has no child yet
  await launch.exited;
  await launch.exitCode();
  for (const stream of launch.program.stdio) stream?.destroy();
  try {
    await cgroup?.remove();
  } catch (error) {
    // The sweep at the next start tries again.
    log.error({ err: error, cgroup: cgroup?.name }, 'a cgroup could not be removed');
  }
}

/** Starts a bubblewrap and puts it into a new cgroup, whose limits are not set yet. Throws what either throws. */
export async function makeLaunch(maker: LaunchMaker, options: { readonly takesInput: boolean }): Promise<ReadyLaunch> {
  const cgroup = maker.cgroups?.create(null) ?? null;
  let launched: Launch;
  try {
    launched = launch(maker.bwrap, options);
  } catch (error) {
    cgroup?.remove().catch(() => {}); // the first mistake is the one to tell
    throw error;
  }
  try {
    await cgroup?.attach(launched.program.pid);
  } catch (error) {
    await discard({ launch: launched, cgroup }, maker.log);
    throw error;
  }
  return { launch: launched, cgroup };
}

type Spare = { readonly made: Promise<ReadyLaunch>; isReady: boolean };

/** A few launches ahead of what is asked for. */
export class SpareLaunches {
  readonly #maker: LaunchMaker;
  readonly #count: number;
  /** By whether they take input; a kind that was never asked for has none. */
  readonly #spares = new Map<boolean, Set<Spare>>();
  #isClosed = false;

  /** `count` of each kind; 0: every launch is made when it is asked for. */
  constructor(maker: LaunchMaker, count = SPARE_LAUNCHES) {
    this.#maker = maker;
    this.#count = count;
  }

  /**
   * The caller's own from here on. A spare may have been killed a moment ago by somebody else, which is not heard of yet.
   * Throws what makeLaunch throws.
   */
  async take(options: { readonly takesInput: boolean }): Promise<ReadyLaunch> {
    const spares = this.#of(options.takesInput);
    setTimeout(() => this.fill(), SPARE_FILL_MS).unref();
    const spare = [...spares].find(({ isReady }) => isReady) ?? [...spares][0];
    if (spare === undefined) return makeLaunch(this.#maker, options);
    spares.delete(spare);
    return spare.made.catch(() => makeLaunch(this.#maker, options));
  }

  /** Ends all; what is asked for later is made for itself. Never rejects. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const all = [...this.#spares.values()].flatMap((spares) => [...spares]);
    for (const spares of this.#spares.values()) spares.clear();
    await Promise.all(all.map(({ made }) => made.then((ready) => discard(ready, this.#maker.log)).catch(() => {})));
  }

  #of(takesInput: boolean): Set<Spare> {
    const spares = this.#spares.get(takesInput) ?? new Set();
    this.#spares.set(takesInput, spares);
    return spares;
  }

  /**
   * Called when a run has ended, since the next is then least in the way of it. Made are several at once, after half of them
   * were used: a cgroup that takes a process in keeps every other from being removed for some ms.
   */
  fill(): void {
    for (const [takesInput, spares] of this.#spares) {
      if (spares.size <= this.#count / 2) this.#fillUp(takesInput, this.#count - spares.size);
    }
  }

  /** At most `left` of them: where none can be made the next call finds out why. */
  #fillUp(takesInput: boolean, left: number): void {
    if (this.#isClosed || left === 0 || this.#of(takesInput).size >= this.#count) return;
    this.#add(takesInput);
    setImmediate(() => this.#fillUp(takesInput, left - 1)); // each holds this thread up for as long as a start takes
  }

  #add(takesInput: boolean): void {
    const spares = this.#of(takesInput);
    const spare: Spare = { made: makeLaunch(this.#maker, { takesInput }), isReady: false };
    spares.add(spare);
    spare.made.then(
      ({ launch, cgroup }) => {
        spare.isReady = true;
        // Killed by somebody else: the next fill makes another.
        launch.exited.then(() => {
          if (spares.delete(spare)) void discard({ launch, cgroup }, this.#maker.log);
        });
      },
      (error) => {
        if (spares.delete(spare)) this.#maker.log.warn({ err: error }, 'a launch could not be made ahead');
      },
    );
  }
}
