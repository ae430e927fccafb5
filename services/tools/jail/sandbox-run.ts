// The life of one sandbox: cgroup, bubblewrap, limits, and an end after which nothing of it is left.
import { setTimeout as sleep } from 'node:timers/promises';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { Cgroup, CgroupUsage } from './cgroups.ts';
import { type HeldMounts, holdMounts } from './held-mounts.ts';
import type { Launch, LaunchParts } from './launch.ts';
import {
  DELIVERY_MAX_MS,
  DISK_POLL_MS,
  GENTLE_CLOSE_MS,
  GENTLE_STOP_MS,
  KILL_GRACE_MS,
  KILL_RETRY_MS,
  SETUP_MAX_MS,
  USAGE_POLL_MS,
} from './limits.ts';
import { checkMounts } from './mount-check.ts';
import { type OutputPump, pumpOutput } from './output-pump.ts';
import { childrenOf, hasOwnFilter, isSameProcess, signalProcess, startTimeOf } from './process-status.ts';
import type { Exit } from './program.ts';
import type { KillReason, OutputSink, SandboxCommand, SandboxEnd } from './sandbox.ts';
import { type LaunchMaker, makeLaunch, type SpareLaunches } from './spare-launches.ts';

export type RunParts = LaunchParts &
  LaunchMaker & {
    readonly log: Log;
    /** Absent: each launch is made when it is needed. */
    readonly spares?: SpareLaunches;
  };

export type RunOptions = {
  readonly output: OutputSink;
  readonly stdin: 'open' | 'given';
  /** Asked every DISK_POLL_MS: true ends the run. */
  readonly diskFull?: (() => Promise<boolean>) | undefined;
  /** See Jail.run(). */
  readonly onHeldUp?: (() => void) | undefined;
};

const SIGXCPU_CODE = 128 + 24;
const SIGXFSZ_CODE = 128 + 25;
const SIGKILL_CODE = 128 + 9;

/** Starts at once; `ended` never rejects and settles when processes, cgroup and pipes are gone. */
export class SandboxRun {
  readonly started: Promise<number>;
  readonly ended: Promise<SandboxEnd>;
  readonly #command: SandboxCommand;
  readonly #parts: RunParts;
  readonly #options: RunOptions;
  readonly #madeAt = process.hrtime.bigint();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #waiting = new AbortController();
  #cgroup: Cgroup | null = null;
  #mounts: HeldMounts | null = null;
  #launch: Launch | null = null;
  #pump: OutputPump | null = null;
  #inner: { pid: number; startTime: number } | null = null;
  #killed: KillReason | null = null;
  #setupFailure: string | null = null;
  #refusal: string | null = null;
  #releasedAt: bigint | null = null;
  #exit: Exit | null = null;
  /** Another launch has its processes stand still. */
  #isPaused = false;
  #stopping: Promise<void> | null = null;

  constructor(command: SandboxCommand, parts: RunParts, options: RunOptions) {
    this.#command = command;
    this.#parts = parts;
    this.#options = options;
    this.started = this.#setUp();
    this.started.catch(() => {}); // told by `ended` as well
    this.ended = this.#live();
    this.ended.then(() => parts.spares?.fill());
  }

  get stdin(): Launch['stdin'] {
    return this.#launch?.stdin ?? null;
  }

  /**
   * Ends the whole tree; the first reason counts. With `gentle` stdin is closed and the command gets SIGTERM first, and
   * GENTLE_STOP_MS to obey.
   */
  async kill(reason: KillReason, options: { readonly gentle?: boolean } = {}): Promise<SandboxEnd> {
    if (!this.#exit) this.#killed ??= reason;
    this.#waiting.abort(new Error(`ended before it started: ${reason}`));
    if (options.gentle && this.#releasedAt !== null) await this.#askToStop();
    this.#killTree();
    // What it says from now on is nobody's: a flood must not delay the end.
    if (reason === 'cancelled' || reason === 'drain') this.#pump?.stop();
    return this.ended;
  }

  /** SIGTERM to PID 1 of the namespace does nothing: it has no handler. Its children are the command. */
  #askToStop(): Promise<void> {
    this.#stopping ??= (async () => {
      this.stdin?.end();
      await this.#exitWithin(GENTLE_CLOSE_MS);
      if (this.#inner && !this.#exit) {
        for (const pid of childrenOf(this.#inner.pid)) signalProcess(pid, 'SIGTERM');
      }
      await this.#exitWithin(GENTLE_STOP_MS - GENTLE_CLOSE_MS);
    })();
    return this.#stopping;
  }

  async #exitWithin(ms: number): Promise<void> {
    const over = new AbortController();
    const time = sleep(ms, undefined, { signal: over.signal }).catch(() => {});
    await Promise.race([this.#launch?.exited, time]);
    over.abort();
  }

  /**
   * Before bubblewrap has named its child nothing is killed (the setup does it then): the child would wait for ever for a
   * parent that is gone. With `force` the child is not waited for.
   */
  #killTree(options: { readonly force?: boolean } = {}): void {
    if (this.#exit || !this.#launch || (this.#inner === null && !options.force)) return;
    this.#launch.program.kill('SIGKILL'); // its namespace dies with it
    if (this.#inner && isSameProcess(this.#inner.pid, this.#inner.startTime)) signalProcess(this.#inner.pid, 'SIGKILL');
    if (this.#isPaused) this.#cgroup?.kill(); // with cgroup v1 what stands still does not die
  }

  /** For a launch that must have nobody beside it. What is to die does so in that moment. */
  async #pause(): Promise<boolean> {
    const cgroup = this.#cgroup;
    if (cgroup === null) return false;
    this.#isPaused = true;
    const stands = await cgroup.freeze();
    if (this.#killed !== null) this.#killTree({ force: true });
    return stands;
  }

  #resume(): void {
    this.#isPaused = false;
    this.#cgroup?.thaw();
  }

  /** Resolves with the nanoseconds that the setup took. */
  async #setUp(): Promise<number> {
    try {
      await this.#takeLaunch();
      await this.#enclose().catch(async (error: unknown) => {
        if (!this.#wasLost()) throw error;
        await this.#giveUpLaunch();
        await this.#takeLaunch({ afresh: true }); // once: who kills this one as well means it
        await this.#enclose();
      });
    } catch (error) {
      this.#setupFailure ??= (error as Error).message;
      if (error instanceof QuernError) this.#refusal = error.details.reason ?? null;
      this.#killTree({ force: true });
      throw error;
    }
    return this.#release(this.#launch!, this.#pump!);
  }

  /** A bubblewrap that waits, within its cgroup. */
  async #takeLaunch({ afresh = false } = {}): Promise<void> {
    const { spares } = this.#parts;
    const how = { takesInput: this.#options.stdin === 'open' || this.#command.stdin !== null };
    const { launch, cgroup } = await (spares && !afresh ? spares.take(how) : makeLaunch(this.#parts, how));
    this.#launch = launch;
    this.#cgroup = cgroup;
    const { stdout, stderr } = launch;
    this.#pump = pumpOutput({ stdout, stderr }, this.#options.output, {
      bytesMax: this.#command.limits.outputBytes,
      onLimit: () => void this.kill('output'),
      onBroken: () => void this.kill('cancelled'),
    });
    launch.exited.then((exit) => {
      if (this.#launch !== launch) return; // given up
      this.#exit = exit;
      for (const timer of this.#timers) clearInterval(timer);
    });
    if (this.#killed !== null) throw new Error(`ended before it started: ${this.#killed}`);
  }

  /**
   * Somebody else killed bubblewrap: a spare, which is not heard of before it is used, or one that made the sandbox. Nothing of the
   * command was there yet.
   */
  #wasLost(): boolean {
    const isOurs = this.#killed !== null || this.#setupFailure !== null;
    return !isOurs && this.#exit?.signal != null;
  }

  /** Until nothing is left of the launch. */
  async #giveUpLaunch(): Promise<void> {
    const launch = this.#launch!;
    this.#cgroup?.kill();
    await this.#empty();
    this.#mounts?.release();
    this.#mounts = null;
    this.#pump?.stop();
    await launch.exitCode();
    for (const stream of launch.program.stdio) stream?.destroy();
    await this.#removeCgroup();
    this.#exit = null;
    this.#launch = null;
    this.#cgroup = null;
    this.#inner = null;
  }

  /** From the limits of the cgroup to a sandbox in which nothing is missing but the command. */
  async #enclose(): Promise<void> {
    const launched = this.#launch!;
    const { limits, stdin, workspace } = this.#command;
    const { onHeldUp } = this.#options;
    // bubblewrap's own process outside of the namespaces counts as well.
    this.#cgroup?.limit({ memoryBytes: limits.memoryBytes, pids: limits.pids + 1 });
    const own = { pause: () => this.#pause(), resume: () => this.#resume() };
    this.#mounts = await holdMounts(this.#command, own, { signal: this.#waiting.signal, onHeldUp });
    const { below, made } = this.#mounts;
    const timer = setTimeout(() => {
      this.#setupFailure = `the sandbox was not made within ${SETUP_MAX_MS} ms`;
      this.#killTree({ force: true });
    }, SETUP_MAX_MS);
    this.#timers.push(timer);
    try {
      launched.begin(this.#command, this.#parts, { withCgroup: this.#cgroup !== null, below });
      if (stdin !== null && this.#options.stdin === 'given') launched.stdin!.end(stdin);
      const pid = await launched.innerPid;
      this.#inner = { pid, startTime: startTimeOf(pid) ?? 0 };
      if (this.#killed !== null) throw new Error(`ended before it started: ${this.#killed}`);
      await launched.made;
      await this.#untilBound(pid);
      if (workspace?.writable && workspace.protected.length > 0) checkMounts(pid, below);
    } finally {
      clearTimeout(timer);
      made();
    }
    if (this.#setupFailure !== null) throw new Error(this.#setupFailure);
    if (this.#killed !== null || this.#exit) throw new Error(`ended before it started: ${this.#killed ?? 'exit'}`);
  }

  /**
   * PID 1 of the sandbox takes the filter after it has asked the kernel to die with bubblewrap, which dies with this process: a
   * command that is let go then outlives neither.
   */
  async #untilBound(pid: number): Promise<void> {
    while (!hasOwnFilter(pid)) {
      if (this.#exit) throw new Error('bubblewrap ended before the sandbox was bound to it');
      await sleep(1);
    }
  }

  #release(launched: Launch, pump: OutputPump): number {
    const { limits } = this.#command;
    const { diskFull } = this.#options;
    pump.open();
    this.#releasedAt = process.hrtime.bigint();
    launched.release();
    this.#timers.push(setTimeout(() => void this.kill('wall'), limits.wallMs));
    const cgroup = this.#cgroup;
    if (cgroup !== null) {
      const look = (): void => {
        const { cpuNs, oomKills } = cgroup.usage();
        // v1 kills one process and leaves the others to run into the same wall.
        if (oomKills > 0) void this.kill('memory');
        else if (cpuNs !== null && cpuNs > limits.cpuMs * 1e6) void this.kill('cpu');
      };
      this.#timers.push(setInterval(look, USAGE_POLL_MS));
    }
    if (diskFull) {
      const look = (): void => {
        diskFull().then(
          (full) => void (full && this.kill('disk')),
          (error) => this.#parts.log.warn({ err: error }, 'the size of a workspace cannot be told'),
        );
      };
      this.#timers.push(setInterval(look, DISK_POLL_MS));
    }
    return Number(this.#releasedAt - this.#madeAt);
  }

  async #live(): Promise<SandboxEnd> {
    await this.started.catch(() => {});
    const setupNs = Number((this.#releasedAt ?? process.hrtime.bigint()) - this.#madeAt);
    const launched = this.#launch;
    const exit = (await launched?.exited) ?? { code: null, signal: null };
    const endedAt = process.hrtime.bigint();
    await this.#empty();
    this.#mounts?.release();
    this.#mounts = null;
    const exitCode = (await launched?.exitCode()) ?? null;
    const usage = this.#cgroup?.usage() ?? null;
    await this.#removeCgroup();
    await this.#deliver();
    const killed = this.#killed ?? this.#reasonOf(exitCode, usage);
    return {
      exitCode,
      signal: exitCode === null ? exit.signal : null,
      killed,
      setupFailure: this.#setupFailureOf(exitCode, killed, exit.signal),
      ...(this.#refusal !== null && killed === null && { refusal: this.#refusal }),
      setupNs,
      runNs: this.#releasedAt === null ? 0 : Number(endedAt - this.#releasedAt),
      cpuNs: usage?.cpuNs ?? null,
      maxMemoryBytes: usage?.maxMemoryBytes ?? null,
      stdoutBytes: this.#pump?.counts.stdout ?? 0,
      stderrBytes: this.#pump?.counts.stderr ?? 0,
      pidsRefused: usage?.pidsRefused ?? 0,
    };
  }

  /** After bubblewrap's end: until no process of the sandbox is left. */
  async #empty(): Promise<void> {
    const since = performance.now();
    const isEmpty = (): boolean =>
      (this.#cgroup?.processes().length ?? 0) === 0 &&
      (this.#inner === null || !isSameProcess(this.#inner.pid, this.#inner.startTime));
    for (let delay = 1; !isEmpty(); delay = Math.min(2 * delay, KILL_RETRY_MS)) {
      if (performance.now() - since > KILL_GRACE_MS) {
        this.#cgroup?.kill();
        // Without a cgroup: somebody killed bubblewrap before its child had asked to die with it.
        if (this.#inner && isSameProcess(this.#inner.pid, this.#inner.startTime))
          signalProcess(this.#inner.pid, 'SIGKILL');
      }
      await sleep(delay);
    }
  }

  /** What was written and not read yet. A caller that does not read holds up a command that ended, no killed one. */
  async #deliver(): Promise<void> {
    const timer = this.#killed === null ? null : setTimeout(() => this.#pump?.stop(), DELIVERY_MAX_MS);
    await this.#pump?.ended;
    if (timer) clearTimeout(timer);
  }

  async #removeCgroup(): Promise<void> {
    try {
      await this.#cgroup?.remove();
    } catch (error) {
      // The sweep at the next start tries again.
      this.#parts.log.error({ err: error, cgroup: this.#cgroup?.name }, 'a cgroup could not be removed');
    }
  }

  /** What the kernel ended it for, when it was not us. */
  #reasonOf(exitCode: number | null, usage: CgroupUsage | null): KillReason | null {
    const { cpuMs } = this.#command.limits;
    if (usage !== null && usage.oomKills > 0) return 'memory';
    const usedCpu = usage?.cpuNs == null || usage.cpuNs >= cpuMs * 0.9e6;
    if (exitCode === SIGXCPU_CODE && usedCpu) return 'cpu';
    if (exitCode === SIGKILL_CODE && usage?.cpuNs != null && usage.cpuNs >= cpuMs * 1e6) return 'cpu';
    if (exitCode === SIGXFSZ_CODE) return 'disk';
    return exitCode !== 0 && usage !== null && usage.pidsRefused > 0 ? 'pids' : null;
  }

  #setupFailureOf(exitCode: number | null, killed: KillReason | null, signal: NodeJS.Signals | null): string | null {
    if (exitCode !== null || killed !== null) return null;
    // Somebody else's SIGKILL of bubblewrap while the command ran; a failed start of it ends with an exit code.
    if (this.#releasedAt !== null && signal !== null) return null;
    if (this.#refusal !== null) return this.#setupFailure;
    const said = this.#pump?.errorText().trim() ?? '';
    if (said !== '') return said;
    return this.#setupFailure ?? `bubblewrap ended${signal ? ` by ${signal}` : ''} without a report`;
  }
}
