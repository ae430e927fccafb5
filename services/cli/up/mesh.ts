/** Runs a plan: starts the parts in order, reports, waits for a signal, drains. */
import { mkdirSync, openSync, renameSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MODEL_REJECTED, QuernError } from '#kit/errors.ts';
import { createLog, type Log } from '#kit/log.ts';
import type { ReadyInfo } from '#kit/parent.ts';
import { ensurePrivateDir } from '#kit/rpc/socket-path.ts';
import { type ChildSpec, createSupervisor, type Supervisor, type SupervisorEvent } from '#kit/supervisor.ts';
import type { Io } from '../command.ts';
import { describePart } from './describe-part.ts';
import { jaegerAnswers } from './jaeger.ts';
import { removeMeshFolder, writeMeshRecord } from './mesh-folder.ts';
import { natsAnswers } from './nats-server.ts';
import { endOfPart } from './part-end.ts';
import { isOptional, type PlannedProcess } from './plan.ts';
import { recordRejectedModel } from './rejected-model.ts';
import type { PartRow, Reporter } from './reporter.ts';

const STOP_GRACE_MS = 35_000; // above the services' own drain grace
const SERVING_TIMEOUT_MS = 60_000;
const SAME_PRESS_MS = 300;
const SERVING_POLL_MS = 50;
const OPTIONAL_SETTLE_MS = 5_000;
const LOG_FILE_BYTES_MAX = 16 * 1024 * 1024;
const RESTART = { minDelayMs: 200, maxDelayMs: 10_000 };

type Settings = {
  report: Reporter;
  io: Io;
  /** Where the sockets lie; made here and gone afterwards. */
  folder: string;
  models: string[];
  verbose: boolean;
  /** It keeps an audit log. */
  audited: boolean;
  /** Where a person sees traces; null: nowhere that is known here. */
  traces: string | null;
  /** The gateway's outbox for audit records; null: none are kept. */
  outbox: string | null;
  /** Rows of the table for what runs elsewhere or not at all. */
  notStarted: PartRow[];
};

/** Starts everything, stays until told to stop, returns the exit code. Nothing is left running afterwards. */
export async function runMesh(plan: PlannedProcess[], settings: Settings): Promise<number> {
  const { report, io, folder, models, verbose, audited, traces, outbox, notStarted } = settings;
  const logFile = openLogFile(join(io.config.stateDir, 'logs', 'up.log'));
  const write = (line: string): void => {
    writeSync(logFile, line);
    if (verbose) io.stderr.write(line);
  };
  const log = createLog({ service: 'up', level: 'info', destination: { write } });
  const startedAt = performance.now();
  const record = (http: string, grpc: string, tls: boolean): void =>
    writeMeshRecord(folder, {
      http,
      grpc,
      tls,
      parts: plan.map(({ kind, name, addresses }) => ({ kind, name, addresses })),
      stateDir: io.config.stateDir,
      audited,
    });
  const stop = waitForStop(report, log, () => {
    killNow(supervisor);
    removeMeshFolder(folder);
  });
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => undefined);
  const watch = createWatch(report, failure.reject, new Set(plan.filter(isOptional).map(({ name }) => name)));
  const supervisor = createSupervisor({ log, onEvent: watch.onEvent });
  try {
    await ensurePrivateDir(folder);
    record('', '', false);
    const start = (part: PlannedProcess) => {
      report({ event: 'starting', name: part.name });
      return supervisor.start(childSpec(part, (line) => write(`${line}\n`)));
    };
    const inner = plan.filter(({ kind }) => kind !== 'gateway').map((part) => ({ part, child: start(part) }));
    const needed = inner.filter(({ part }) => !isOptional(part)).map(({ child }) => child.ready);
    await Promise.race([Promise.all(needed), failure.promise, stop.requested]);
    if (!stop.signal.aborted) {
      const gateways = plan.filter(({ kind }) => kind === 'gateway').map(start);
      await Promise.race([Promise.all(gateways.map(({ ready }) => ready)), failure.promise, stop.requested]);
      const info = gateways[0]?.info;
      if (!stop.signal.aborted && info) {
        const served = waitForServing(info, stop.signal).then(() => watch.settled(stop.signal));
        await Promise.race([served, failure.promise, stop.requested]);
      }
      if (!stop.signal.aborted && info) {
        watch.serving();
        const { http, grpc, tls } = publicAddresses(info);
        record(http, grpc, tls);
        const parts = [...supervisor.children.map((child) => partRow(child, plan, watch.reasonOf)), ...notStarted];
        const seconds = (performance.now() - startedAt) / 1000;
        const keys = io.config.keysFile ?? null;
        report({ event: 'ready', http, grpc, tls, seconds, parts, models, keys, traces });
        await stop.requested;
      }
    }
    return 0;
  } finally {
    await supervisor.stop();
    const { rejected } = watch;
    if (rejected !== null && outbox !== null) {
      const model = plan.find(({ name }) => name === rejected)?.env.QUERN_ENGINE_MODEL_NAME ?? '';
      await recordRejectedModel(outbox, model).catch((error: unknown) => {
        log.warn({ err: error, model }, 'that the model was rejected cannot be recorded');
      });
    }
    removeMeshFolder(folder);
    report({ event: 'stopped' });
  }
}

/** Listening is not yet serving: the gateway still fetches vocabularies and opens Sessions. Its /health knows. */
async function waitForServing({ addresses }: { addresses: string[] }, signal: AbortSignal): Promise<void> {
  const http = addresses.find((address) => address.startsWith('http:'));
  if (http === undefined) return; // with TLS its certificate may not name this address
  const deadline = performance.now() + SERVING_TIMEOUT_MS;
  for (let said = 'nothing'; !signal.aborted; ) {
    const response = await fetch(`${http}/health`).catch(() => undefined);
    said = (await response?.text()) ?? said;
    if (response?.status === 200) return;
    if (performance.now() > deadline) {
      const after = `${SERVING_TIMEOUT_MS / 1000} s after all parts were ready`;
      throw new QuernError('UNAVAILABLE', `the mesh serves nothing ${after}; the gateway says: ${said}`);
    }
    await sleep(SERVING_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

function childSpec(part: PlannedProcess, onLine: (line: string) => void): ChildSpec {
  const { name, command, args, env, nats, jaeger } = part;
  const spec = { name, command, args, env, stopGraceMs: STOP_GRACE_MS, restart: RESTART, onLine };
  if (jaeger !== undefined) {
    return { ...spec, ipc: false, pidFile: jaeger.pidFile, readyCheck: () => jaegerAnswers(jaeger.ports) };
  }
  if (nats === undefined) return spec;
  return { ...spec, ipc: false, pidFile: nats.pidFile, readyCheck: () => natsAnswers(nats.port) };
}

/** Turns supervisor events into reports; before the mesh serves, a part that dies fails the start, unless it is optional. */
function createWatch(report: Reporter, fail: (error: QuernError) => void, optional: ReadonlySet<string>) {
  let serving = false;
  let rejected: string | null = null;
  const failed = (name: string, reason: string) => new QuernError('FAILED_PRECONDITION', `${name}: ${reason}`);
  const reasons = new Map<string, string>();
  const spawnedAt = new Map<string, number>();
  /** Optional parts that are neither ready nor have failed. */
  const pending = new Set(optional);
  const onEvent = (event: SupervisorEvent): void => {
    const { name } = event;
    if (event.type === 'spawned') {
      spawnedAt.set(name, performance.now());
      report({ event: 'started', name, pid: event.pid });
    } else if (event.type === 'progress') {
      report({ event: 'progress', name, phase: event.phase, done: event.done, total: event.total });
    } else if (event.type === 'ready') {
      reasons.delete(name);
      pending.delete(name);
      report({ event: 'part_ready', name, seconds: (performance.now() - (spawnedAt.get(name) ?? 0)) / 1000 });
    } else if (event.type === 'fatal') {
      reasons.set(name, event.message);
      if (serving || event.reason !== MODEL_REJECTED) return; // once it serves, the gateway hears of it
      rejected = name;
      fail(failed(name, event.message)); // it would go on telling for a while
    } else if (event.type === 'gave_up') {
      report({ event: 'exited', name, reason: `gave up after ${event.restarts} restarts`, restart_in_ms: null });
    } else if (!event.expected) {
      const reason = reasons.get(name) ?? endOfPart(event.code, event.signal);
      reasons.set(name, reason);
      pending.delete(name);
      if (serving || optional.has(name)) report({ event: 'exited', name, reason, restart_in_ms: event.restartInMs });
      else fail(failed(name, reason));
    }
  };
  return {
    onEvent,
    /** The part that refused its model before the mesh served. */
    get rejected(): string | null {
      return rejected;
    },
    serving: (): void => {
      serving = true;
    },
    reasonOf: (name: string): string | undefined => reasons.get(name),
    /** Resolves when no optional part is still on its way, or after a while. */
    async settled(signal: AbortSignal): Promise<void> {
      const deadline = performance.now() + OPTIONAL_SETTLE_MS;
      while (pending.size > 0 && performance.now() < deadline && !signal.aborted) await sleep(SERVING_POLL_MS);
    },
  };
}

/** The first SIGINT, SIGTERM or lost parent asks for the drain; a second signal ends at once. */
function waitForStop(report: Reporter, log: Log, killNow: () => void) {
  const controller = new AbortController();
  const requested = Promise.withResolvers<void>();
  let askedAt = 0;
  const ask = (reason: string): void => {
    if (controller.signal.aborted) {
      // A terminal sends Ctrl-C to the launcher too, which passes it on: the same key press, not a second one.
      if (performance.now() - askedAt < SAME_PRESS_MS) return;
      killNow();
      process.exit(130);
    }
    askedAt = performance.now();
    controller.abort();
    log.info({ reason }, 'draining');
    report({ event: 'draining', reason });
    requested.resolve();
  };
  const listeners: [string, () => void][] = [
    ['SIGINT', () => ask('Ctrl-C')],
    ['SIGTERM', () => ask('SIGTERM')],
    ['SIGHUP', () => ask('the terminal is gone')],
  ];
  for (const [name, listener] of listeners) process.on(name, listener);
  return {
    signal: controller.signal,
    // The listeners stay until the process ends: a second signal during the drain must still end at once.
    requested: requested.promise,
  };
}

/** Ends every child at once: each leads a process group of its own. */
function killNow({ children }: Supervisor): void {
  for (const { pid } of children) {
    try {
      if (pid !== null) process.kill(-pid, 'SIGKILL');
    } catch {
      // gone already
    }
  }
}

/** HTTP and gRPC, as HOST:PORT. */
function publicAddresses(info: ReadyInfo): { http: string; grpc: string; tls: boolean } {
  const http = info.addresses.find((address) => address.startsWith('http')) ?? '';
  const grpc = info.addresses.find((address) => address !== http) ?? '';
  return { http: http.replace(/^https?:\/\//, ''), grpc, tls: http.startsWith('https:') };
}

type Child = { name: string; pid: number | null; state: string; info: ReadyInfo | null };

function partRow(child: Child, plan: PlannedProcess[], reasonOf: (name: string) => string | undefined): PartRow {
  const part = plan.find(({ name }) => name === child.name);
  const info = child.info ?? { addresses: [] };
  const addresses = info.addresses.length > 0 ? info.addresses : (part?.addresses ?? []);
  const metrics = part?.metrics === undefined ? [] : [`metrics http://${part.metrics}/metrics`];
  const what = part?.what ?? describePart(info);
  return {
    name: child.name,
    pid: child.pid,
    where: [...addresses, ...metrics].join(', '),
    what: child.state === 'ready' ? what : `not running: ${reasonOf(child.name) ?? 'it is still starting'}`,
  };
}

/** Appends; a file above the bound is moved aside once, so that two generations are kept. */
function openLogFile(file: string): number {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  try {
    if (statSync(file).size > LOG_FILE_BYTES_MAX) renameSync(file, `${file}.1`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return openSync(file, 'a', 0o600);
}
