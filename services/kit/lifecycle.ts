// The life of one process: start, ready, drain, stop. One signal drains, a second one ends at once, and a process
// started by the supervisor drains when its parent is gone.
import { type Code, QuernError, toQuernError } from './errors.ts';
import { DRAIN_GRACE_MS } from './limits.ts';
import type { Log } from './log.ts';
import { reportFatal } from './parent.ts';

export type LifecycleState = 'new' | 'starting' | 'ready' | 'draining' | 'stopped';

/**
 * One part of a process. start and ready run in the order given, drain and stop in reverse: list what others need
 * first (outbox, engine), the server last.
 */
export type LifecycleStep = {
  name: string;
  start?(options: { signal: AbortSignal }): Promise<void> | void;
  /** Called when every step has started. */
  ready?(options: { signal: AbortSignal }): Promise<void> | void;
  /** Refuse new work and finish what runs. The signal aborts when the grace is over. */
  drain?(options: { signal: AbortSignal; graceMs: number }): Promise<void> | void;
  /** Free everything. Runs for each step whose start was called, also when that start failed. */
  stop?(): Promise<void> | void;
};

/** What runMain needs of the process; tests give their own. */
export type MainHost = { stderr: { write(text: string): unknown }; exitCode?: number | string | null | undefined };

/** What lifecycle needs of the process; tests give their own. */
export type ProcessLike = {
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  off(event: string, listener: (...args: unknown[]) => void): unknown;
  exit(code: number): void;
  connected?: boolean | undefined;
  channel?: { unref(): void } | null | undefined;
};

export type Lifecycle = {
  readonly state: LifecycleState;
  /** Aborts when the drain begins. */
  readonly signal: AbortSignal;
  /** Starts all steps, then calls every ready. Rejects, everything stopped again, when one fails. */
  start(): Promise<void>;
  /** Drains and stops. Later calls wait for the same end. */
  stop(reason: string): Promise<void>;
  /** Resolves when stopped. */
  readonly stopped: Promise<void>;
};

const SIGNAL_NUMBERS: Record<string, number> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

/** Waits for `work`, at most until the signal aborts. */
async function settleWithin(work: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise: aborted, resolve } = Promise.withResolvers<void>();
  const onAbort = (): void => resolve();
  signal.addEventListener('abort', onAbort, { once: true });
  await Promise.race([work, aborted]);
  signal.removeEventListener('abort', onAbort);
}

function stopError(reason: string, code: Code = 'UNAVAILABLE'): QuernError {
  return new QuernError(code, `the process is stopping: ${reason}`, { reason: 'STOPPING' });
}

/** Builds the life of a process from its steps. `process: null` installs no signal handlers. */
export function createLifecycle(options: {
  log: Log;
  steps: readonly LifecycleStep[];
  drainGraceMs?: number;
  process?: ProcessLike | null;
}): Lifecycle {
  const { log, steps, drainGraceMs = DRAIN_GRACE_MS } = options;
  const host = options.process === undefined ? (process as unknown as ProcessLike) : options.process;
  const controller = new AbortController();
  const { promise: stopped, resolve: resolveStopped } = Promise.withResolvers<void>();
  const started: LifecycleStep[] = [];
  let state: LifecycleState = 'new';
  let starting: Promise<void> = Promise.resolve();
  let stopping: Promise<void> | null = null;

  const listeners: [string, (...args: unknown[]) => void][] = [];
  function listen(event: string, listener: (...args: unknown[]) => void): void {
    host?.on(event, listener);
    listeners.push([event, listener]);
  }

  function onSignal(name: string): void {
    if (stopping) {
      log.warn({ signal: name }, 'second signal: exiting at once');
      host?.exit(128 + (SIGNAL_NUMBERS[name] ?? 0));
      return;
    }
    log.info({ signal: name, drain_grace_ms: drainGraceMs }, 'draining');
    stop(name).then(() => host?.exit(0));
  }

  function watchProcess(): void {
    if (!host) return;
    for (const name of Object.keys(SIGNAL_NUMBERS)) listen(name, () => onSignal(name));
    if (host.channel) {
      listen('disconnect', () => {
        log.warn({}, 'the parent process is gone: draining');
        stop('the parent process is gone').then(() => host.exit(0));
      });
      host.channel.unref(); // the channel alone must not keep a finished process alive
    }
  }

  async function drainSteps(): Promise<void> {
    const signal = AbortSignal.timeout(drainGraceMs);
    for (const step of started.toReversed()) {
      const work = async (): Promise<void> => step.drain?.({ signal, graceMs: drainGraceMs });
      const logged = work().catch((error) => log.error({ err: error, step: step.name }, 'drain failed'));
      await settleWithin(logged, signal);
    }
    if (signal.aborted) log.warn({ drain_grace_ms: drainGraceMs }, 'the grace is over: stopping with work unfinished');
  }

  async function stopSteps(): Promise<void> {
    for (const step of started.toReversed()) {
      try {
        await step.stop?.();
      } catch (error) {
        log.error({ err: error, step: step.name }, 'stop failed');
      }
    }
  }

  function stop(reason: string): Promise<void> {
    stopping ??= (async () => {
      const wasReady = state === 'ready';
      state = 'draining';
      controller.abort(stopError(reason));
      // A start under way sees the signal; what it opened must be there before it is closed.
      await settleWithin(
        starting.catch(() => {}),
        AbortSignal.timeout(drainGraceMs),
      );
      if (wasReady) await drainSteps();
      await stopSteps();
      state = 'stopped';
      for (const [event, listener] of listeners) host?.off(event, listener);
      log.info({ reason }, 'stopped');
      resolveStopped();
    })();
    return stopping;
  }

  async function runSteps(): Promise<void> {
    const { signal } = controller;
    for (const step of steps) {
      if (signal.aborted) throw toQuernError(signal.reason);
      started.push(step);
      await step.start?.({ signal });
    }
    for (const step of steps) {
      if (signal.aborted) throw toQuernError(signal.reason);
      await step.ready?.({ signal });
    }
    if (signal.aborted) throw toQuernError(signal.reason);
  }

  return {
    get state() {
      return state;
    },
    signal: controller.signal,
    stopped,
    stop,
    async start() {
      if (state !== 'new') throw new QuernError('FAILED_PRECONDITION', `start() called in state ${state}`);
      state = 'starting';
      watchProcess();
      try {
        starting = runSteps();
        await starting;
      } catch (error) {
        await stop('start failed');
        throw error;
      }
      state = 'ready';
      log.info({ steps: steps.map((step) => step.name) }, 'ready');
    },
  };
}

/**
 * What each main.ts is: what it throws is told to the supervisor and to stderr in one sentence, and the process exits 1
 * when nothing keeps it. A stop asked for during the start is no failure.
 */
export async function runMain(service: string, main: () => Promise<void>, host: MainHost = process): Promise<void> {
  try {
    await main();
  } catch (thrown) {
    if (toQuernError(thrown).details.reason === 'STOPPING') return;
    const fault = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    const message = thrown instanceof QuernError ? thrown.message : fault;
    reportFatal(message);
    host.stderr.write(`${service}: ${message}\n`);
    host.exitCode = 1;
  }
}
