// What a sandbox is to everything above it: one command, run once, in a place of its own. launch.ts makes it.

/** Bounds of one run; all are enforced before the first instruction of the command. */
export type SandboxLimits = {
  /** Milliseconds from the first instruction. */
  readonly wallMs: number;
  /** Milliseconds of CPU time, all processes together where cgroups count them, else each. */
  readonly cpuMs: number;
  readonly memoryBytes: number;
  /** Processes and threads. */
  readonly pids: number;
  readonly openFiles: number;
  readonly fileBytes: number;
  /** stdout and stderr together; what comes beyond it ends the run. */
  readonly outputBytes: number;
  /** Of /tmp. */
  readonly tmpBytes: number;
};

export type NetworkMode = 'none' | 'proxy';

/** A file or folder of the host that the command sees, read-only. Never a socket. */
export type ReadOnlyBind = { readonly from: string; readonly to: string };

export type SandboxCommand = {
  /** An absolute path inside the sandbox and its arguments. */
  readonly argv: readonly string[];
  /** Besides PATH, HOME, LANG and TMPDIR. */
  readonly env: Readonly<Record<string, string>>;
  /** At most STDIN_MAX bytes; null: /dev/null. */
  readonly stdin: Uint8Array | null;
  /** Host folder that becomes /work; null: an empty one in memory. */
  readonly workspace: {
    readonly path: string;
    readonly writable: boolean;
    readonly protected: readonly string[];
  } | null;
  readonly binds: readonly ReadOnlyBind[];
  readonly network: NetworkMode;
  readonly limits: SandboxLimits;
};

/** Why a run ended that did not end by itself; decided by what killed it first. */
export type KillReason = 'wall' | 'cpu' | 'memory' | 'pids' | 'output' | 'disk' | 'cancelled' | 'drain';

export type SandboxEnd = {
  /** 0 to 255; null: it did not exit by itself. */
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly killed: KillReason | null;
  /** Non-null: the command never ran, and why. */
  readonly setupFailure: string | null;
  /** A reason such as PROTECTED_PATH_BUSY: the sandbox did not fail, the launch was refused; setupFailure tells the caller why. */
  readonly refusal?: string;
  readonly setupNs: number;
  readonly runNs: number;
  readonly cpuNs: number | null;
  readonly maxMemoryBytes: number | null;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** Processes and threads that the limit refused it, whatever it made of that; absent: not counted. */
  readonly pidsRefused?: number;
};

export type OutputSink = {
  /** Called in order. False: full; the command's pipes are paused until drained() settles. The wall clock goes on. */
  write(stream: 'stdout' | 'stderr', data: Uint8Array): boolean;
  drained(): Promise<void>;
};

/** A running command with open pipes, for servers that talk over stdio (MCP). */
export type SandboxSession = {
  readonly started: Promise<void>;
  write(data: Uint8Array): Promise<void>;
  readonly ended: Promise<SandboxEnd>;
  /**
   * Ends the whole tree; settles when nothing of it is left. `gentle` closes stdin and sends SIGTERM first, and gives the
   * command a second to obey.
   */
  kill(reason: KillReason, options?: { readonly gentle?: boolean }): Promise<SandboxEnd>;
};

export type Capability = {
  readonly name: string;
  readonly available: boolean;
  readonly detail: string;
  readonly remedy: string;
};

export type Capabilities = {
  /** 'A': all layers; 'A-': without cgroups, only where the operator allowed it; null: nothing runs. */
  readonly tier: 'A' | 'A-' | null;
  readonly list: readonly Capability[];
  readonly probedUnixMs: number;
};

/** Asked now and then while a command runs; true ends it with the reason 'disk'. */
export type DiskFull = () => Promise<boolean>;

/**
 * Told once while a command waits for others of its workspace to end, without which it is refused (held-mounts.ts): those that idle
 * may be ended.
 */
export type OnHeldUp = () => void;

export type Jail = {
  /**
   * Runs a command to its end. Settles when no process, cgroup, mount or pipe of it is left, whatever happened; rejects
   * FAILED_PRECONDITION, reason SANDBOX_UNAVAILABLE, when there is no tier.
   */
  run(
    command: SandboxCommand,
    options: {
      signal: AbortSignal;
      output: OutputSink;
      onStart?: (setupNs: number) => void;
      diskFull?: DiskFull;
      onHeldUp?: OnHeldUp;
    },
  ): Promise<SandboxEnd>;
  /** The same with stdin left open; throws where run() rejects. */
  open(
    command: SandboxCommand,
    options: { signal: AbortSignal; output: OutputSink; diskFull?: DiskFull; onHeldUp?: OnHeldUp },
  ): SandboxSession;
  capabilities(): Capabilities;
  /** Runs the self-test again, or joins the one that runs. The signal ends the wait, not the test. */
  probe(options: { signal: AbortSignal }): Promise<Capabilities>;
  /** How many commands run now. */
  readonly running: number;
  close(): Promise<void>;
};
