// Starts the processes of one machine, restarts what dies, and stops all of them in reverse order. Children get an ipc
// channel: it tells readiness and progress upwards, and its end tells them that the supervisor is gone.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from './assert.ts';
import { QuernError, toQuernError } from './errors.ts';
import {
  CHILD_LINE_CHARS_MAX,
  RESTART_MAX_DELAY_MS,
  RESTART_MIN_DELAY_MS,
  RESTART_RESET_MS,
  STOP_GRACE_MS,
} from './limits.ts';
import type { Log } from './log.ts';
import type { ParentMessage, ReadyInfo } from './parent.ts';
import { removePidFile, sweepPidFile, writePidFile } from './pid-file.ts';

export type RestartPolicy = {
  minDelayMs: number;
  maxDelayMs: number;
  /** In a row, without RESTART_RESET_MS of readiness in between. Absent: without end. 0: never. */
  maxRestarts?: number;
};

export type ChildSpec = {
  name: string;
  command: string;
  args: readonly string[];
  /** The whole environment of the child. */
  env: Record<string, string | undefined>;
  cwd?: string;
  /** Ready when a line of its standard output matches. */
  readyLine?: RegExp;
  /** Ready when this resolves to true; asked every 100 ms. Without readyLine and readyCheck, the child's reportReady counts. */
  readyCheck?: (options: { signal: AbortSignal }) => Promise<boolean>;
  stopGraceMs?: number;
  restart?: RestartPolicy;
  /** False for programs that do not speak Node's ipc; give them a pidFile. Default true. */
  ipc?: boolean;
  pidFile?: string;
  /** Each line of output. Without it the child writes to the supervisor's own streams (with readyLine: copied there). */
  onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
};

export type ChildState = 'starting' | 'ready' | 'waiting' | 'stopping' | 'stopped' | 'failed';

export type SupervisorEvent =
  | { type: 'spawned'; name: string; pid: number }
  | { type: 'ready'; name: string; info: ReadyInfo }
  | { type: 'progress'; name: string; phase: string; done: number; total: number }
  /** It says why it is about to exit; `reason` is its word for programs, if it has one. May come more than once. */
  | { type: 'fatal'; name: string; message: string; reason?: string }
  /** `expected`: it was told to stop. `restartInMs` null: it stays down. */
  | {
      type: 'exited';
      name: string;
      code: number | null;
      signal: NodeJS.Signals | null;
      expected: boolean;
      restartInMs: number | null;
    }
  /** It died more often than its policy allows; nobody restarts it any more. */
  | { type: 'gave_up'; name: string; restarts: number };

export type SupervisedChild = {
  readonly name: string;
  readonly state: ChildState;
  readonly pid: number | null;
  readonly restarts: number;
  /** What the child last reported; null before. */
  readonly info: ReadyInfo | null;
  /** Resolves at the first readiness. Rejects UNAVAILABLE when the child is stopped or given up before. */
  readonly ready: Promise<ReadyInfo>;
  /** SIGTERM, after the grace SIGKILL to its process group. */
  stop(): Promise<void>;
};

export type Supervisor = {
  start(spec: ChildSpec): SupervisedChild;
  readonly children: readonly SupervisedChild[];
  /** Stops all children, the last started first, each one only when its successor is gone. */
  stop(): Promise<void>;
};

const READY_POLL_MS = 100;
const DEFAULT_RESTART: RestartPolicy = { minDelayMs: RESTART_MIN_DELAY_MS, maxDelayMs: RESTART_MAX_DELAY_MS };

/** Delay before restart number `attempt` (1, 2, ...): doubling from minDelayMs to maxDelayMs, with +-20 % of jitter. */
export function backoffMs(policy: RestartPolicy, attempt: number, random: () => number = Math.random): number {
  const base = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** Math.min(attempt - 1, 30));
  return Math.round(base * (0.8 + 0.4 * random()));
}

function isParentMessage(message: unknown): message is ParentMessage {
  const type = typeof message === 'object' && message !== null ? (message as { type?: unknown }).type : null;
  return type === 'ready' || type === 'progress' || type === 'fatal';
}

/** Signals the child's whole process group; it leads one because it is spawned detached. */
function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    child.kill(signal);
  }
}

type Context = { log: Log; onEvent: (event: SupervisorEvent) => void };

/** One supervised child over all its lives. */
class Supervised implements SupervisedChild {
  readonly name: string;
  readonly ready: Promise<ReadyInfo>;
  state: ChildState = 'starting';
  info: ReadyInfo | null = null;
  restarts = 0;
  readonly #spec: ChildSpec;
  readonly #context: Context;
  readonly #resolveReady: (info: ReadyInfo) => void;
  readonly #rejectReady: (error: unknown) => void;
  readonly #stopping = new AbortController();
  readonly #loop: Promise<void>;
  #child: ChildProcess | null = null;
  #attempts = 0;
  #readyAtMs: number | null = null;
  #fatal: string | null = null;

  constructor(spec: ChildSpec, context: Context) {
    this.name = spec.name;
    this.#spec = spec;
    this.#context = context;
    const { promise, resolve, reject } = Promise.withResolvers<ReadyInfo>();
    promise.catch(() => {}); // whoever waits gets the rejection; nobody has to wait
    this.ready = promise;
    this.#resolveReady = resolve;
    this.#rejectReady = reject;
    this.#loop = this.#run();
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  async stop(): Promise<void> {
    if (!this.#stopping.signal.aborted) this.#stopping.abort();
    await this.#loop;
  }

  /** The lives of the child, one after the other, until it is stopped or given up. */
  async #run(): Promise<void> {
    const { log, onEvent } = this.#context;
    const policy = this.#spec.restart ?? DEFAULT_RESTART;
    const { signal } = this.#stopping;
    while (true) {
      const { code, exitSignal } = await this.#live();
      const readyForMs = this.#readyAtMs === null ? 0 : performance.now() - this.#readyAtMs;
      if (readyForMs >= RESTART_RESET_MS) this.#attempts = 0;
      this.#attempts += 1;
      const expected = signal.aborted;
      const spent = policy.maxRestarts !== undefined && this.#attempts > policy.maxRestarts;
      const restartInMs = expected || spent ? null : backoffMs(policy, this.#attempts);
      const fields = { child: this.name, code, signal: exitSignal, restart_in_ms: restartInMs };
      if (expected) log.info(fields, 'child stopped');
      else log.error(fields, 'child died');
      onEvent({ type: 'exited', name: this.name, code, signal: exitSignal, expected, restartInMs });
      if (restartInMs === null) {
        this.#end(expected, code, exitSignal);
        return;
      }
      this.state = 'waiting';
      await sleep(restartInMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) {
        this.#end(true, code, exitSignal);
        return;
      }
      this.restarts += 1;
      this.state = 'starting';
    }
  }

  #end(expected: boolean, code: number | null, exitSignal: string | null): void {
    this.state = expected ? 'stopped' : 'failed';
    const why = this.#fatal ?? `exit ${exitSignal ?? code}`;
    const message = expected ? `${this.name} was stopped before it was ready` : `${this.name} stays down: ${why}`;
    this.#rejectReady(new QuernError('UNAVAILABLE', message, { reason: expected ? 'STOPPING' : 'CHILD_FAILED' }));
    if (!expected) this.#context.onEvent({ type: 'gave_up', name: this.name, restarts: this.restarts });
  }

  /** One life: from spawn to exit. */
  async #live(): Promise<{ code: number | null; exitSignal: NodeJS.Signals | null }> {
    const { log, onEvent } = this.#context;
    const spec = this.#spec;
    const { signal } = this.#stopping;
    this.#readyAtMs = null;
    if (spec.pidFile) {
      const swept = await sweepPidFile(spec.pidFile, spec.command, spec.stopGraceMs ?? STOP_GRACE_MS);
      if (swept !== null) log.warn({ child: this.name, pid: swept }, 'ended what an earlier run left behind');
    }
    if (signal.aborted) return { code: null, exitSignal: null };
    const output = spec.onLine || spec.readyLine ? 'pipe' : 'inherit';
    const child = spawn(spec.command, [...spec.args], {
      env: spec.env as NodeJS.ProcessEnv,
      stdio: ['ignore', output, output, ...((spec.ipc ?? true) ? ['ipc' as const] : [])],
      detached: true, // an own group: Ctrl-C reaches the supervisor only, which stops the children in order
      ...(spec.cwd !== undefined && { cwd: spec.cwd }),
    });
    this.#child = child;
    const life = new AbortController();
    const exited = new Promise<{ code: number | null; exitSignal: NodeJS.Signals | null }>((resolve) => {
      child.once('exit', (code, exitSignal) => resolve({ code, exitSignal }));
      child.once('error', (cause) => {
        if (child.pid !== undefined) return; // a message that could not be sent; 'exit' will follow
        this.#fatal = `cannot start ${spec.command}: ${cause.message}`;
        onEvent({ type: 'fatal', name: this.name, message: this.#fatal });
        resolve({ code: null, exitSignal: null });
      });
    });
    if (child.pid !== undefined) {
      onEvent({ type: 'spawned', name: this.name, pid: child.pid });
      log.info({ child: this.name, child_pid: child.pid }, 'child spawned');
      if (spec.pidFile) await writePidFile(spec.pidFile, child.pid);
    }
    child.on('message', (message) => this.#onMessage(message));
    this.#watchOutput(child);
    if (spec.readyCheck) this.#poll(spec.readyCheck, life.signal);
    const onStop = (): void => void this.#terminate(child, life.signal);
    if (signal.aborted) onStop();
    else signal.addEventListener('abort', onStop, { once: true });
    const result = await exited;
    signal.removeEventListener('abort', onStop);
    life.abort();
    killGroup(child, 'SIGKILL'); // what the child itself started and left
    this.#child = null;
    if (spec.pidFile) await removePidFile(spec.pidFile);
    return result;
  }

  #becomeReady(info: ReadyInfo): void {
    if (this.state !== 'starting') return;
    this.state = 'ready';
    this.info = info;
    this.#readyAtMs = performance.now();
    this.#fatal = null;
    this.#context.log.info({ child: this.name, addresses: info.addresses }, 'child ready');
    this.#context.onEvent({ type: 'ready', name: this.name, info });
    this.#resolveReady(info);
  }

  #onMessage(message: unknown): void {
    if (!isParentMessage(message)) return;
    if (message.type === 'ready') {
      const { type: _, ...info } = message;
      this.#becomeReady(info);
    } else if (message.type === 'progress') {
      const { phase, done, total } = message;
      this.#context.onEvent({ type: 'progress', name: this.name, phase, done, total });
    } else {
      const { type, message: why, reason } = message;
      this.#fatal = why;
      this.#context.onEvent({ type, name: this.name, message: why, ...(reason !== undefined && { reason }) });
    }
  }

  #watchOutput(child: ChildProcess): void {
    const { readyLine, onLine } = this.#spec;
    for (const stream of ['stdout', 'stderr'] as const) {
      const source = child[stream];
      if (!source) continue;
      const lines = createInterface({ input: source, crlfDelay: Number.POSITIVE_INFINITY });
      lines.on('line', (line) => {
        const cut = line.slice(0, CHILD_LINE_CHARS_MAX);
        if (onLine) onLine(cut, stream);
        else process[stream].write(`${cut}\n`);
        if (stream === 'stdout' && readyLine?.test(cut)) this.#becomeReady({ addresses: [] });
      });
    }
  }

  async #poll(check: NonNullable<ChildSpec['readyCheck']>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.state === 'starting') {
      const ok = await check({ signal }).catch((error) => {
        this.#context.log.debug({ child: this.name, error: toQuernError(error).message }, 'not ready yet');
        return false;
      });
      if (ok && !signal.aborted) this.#becomeReady({ addresses: [] });
      else await sleep(READY_POLL_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** SIGTERM now, SIGKILL when the grace is over. `exited` aborts when the child is gone. */
  async #terminate(child: ChildProcess, exited: AbortSignal): Promise<void> {
    const graceMs = this.#spec.stopGraceMs ?? STOP_GRACE_MS;
    this.state = 'stopping';
    child.kill('SIGTERM');
    await sleep(graceMs, undefined, { signal: exited }).catch(() => {});
    if (exited.aborted) return;
    this.#context.log.warn({ child: this.name, stop_grace_ms: graceMs }, 'the grace is over: killing');
    killGroup(child, 'SIGKILL');
  }
}

/** Events come in order; onEvent must not throw. */
export function createSupervisor(context: { log: Log; onEvent?: (event: SupervisorEvent) => void }): Supervisor {
  const { log, onEvent = () => {} } = context;
  const children: Supervised[] = [];
  let stopping: Promise<void> | null = null;

  async function stopAll(): Promise<void> {
    for (const child of children.toReversed()) await child.stop();
  }

  return {
    children,
    start(spec) {
      assert(!stopping, 'start() after stop()');
      assert(!children.some((child) => child.name === spec.name), `two children are named ${spec.name}`);
      const child = new Supervised(spec, { log, onEvent });
      children.push(child);
      return child;
    },
    stop() {
      stopping ??= stopAll();
      return stopping;
    },
  };
}
