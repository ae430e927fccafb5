/**
 * A process that is to the jail what the tool service is: it starts with whatever rights it has, gives root up, opens
 * the jail and runs what its parent sends. Tests start it with jail-client.ts.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '#kit/log.ts';
import { writeInnerEtc } from '../../services/tools/jail/inner-etc.ts';
import { openJail } from '../../services/tools/jail/jail.ts';
import { giveUpRoot } from '../../services/tools/jail/privileges.ts';
import { signalProcess } from '../../services/tools/jail/process-status.ts';
import type {
  Jail,
  KillReason,
  OutputSink,
  SandboxCommand,
  SandboxSession,
} from '../../services/tools/jail/sandbox.ts';
import { SandboxRun } from '../../services/tools/jail/sandbox-run.ts';
import { syscallRunner } from '../../services/tools/jail/syscall-runner.ts';
import { findToolchain } from '../../services/tools/jail/toolchain.ts';
import type { HostConfig, HostRequest, HostResult, RunSettings } from './jail-client.ts';

const aborts = new Map<number, AbortController>();
const sessions = new Map<number, SandboxSession>();
let jail: Jail | null = null;
let stateDir = '';

function sinkFor(settings: RunSettings): {
  sink: OutputSink;
  text: () => Pick<HostResult, 'stdout' | 'stderr' | 'bytes'>;
} {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  let kept = 0;
  const sink: OutputSink = {
    write(stream, data) {
      kept += data.length;
      if (kept <= (settings.keepBytes ?? 1024 ** 2)) parts[stream].push(data);
      return settings.holdMs === undefined;
    },
    drained: () => sleep(settings.holdMs),
  };
  const text = (stream: 'stdout' | 'stderr'): string => Buffer.concat(parts[stream]).toString();
  const bytes = (): { bytes?: Uint8Array } => (settings.raw ? { bytes: Buffer.concat(parts.stdout) } : {});
  return { sink, text: () => ({ stdout: text('stdout'), stderr: text('stderr'), ...bytes() }) };
}

async function run(id: number, command: SandboxCommand, settings: RunSettings): Promise<HostResult> {
  const abort = new AbortController();
  aborts.set(id, abort);
  if (settings.abortAfterMs !== undefined) setTimeout(() => abort.abort(), settings.abortAfterMs).unref();
  const { sink, text } = sinkFor(settings);
  let delivered = 0;
  const output: OutputSink = {
    write: (stream, data) => {
      delivered += data.length;
      return sink.write(stream, data);
    },
    drained: sink.drained,
  };
  for (const pid of settings.killsFirst ?? []) signalProcess(pid, 'SIGKILL');
  try {
    const end = await jail!.run(command, {
      signal: abort.signal,
      output,
      ...(settings.diskFullAfterMs === undefined ? {} : { diskFull: diskFullAfter(settings.diskFullAfterMs) }),
    });
    return { end, ...text(), delivered };
  } finally {
    aborts.delete(id);
  }
}

function diskFullAfter(ms: number): () => Promise<boolean> {
  const at = performance.now() + ms;
  return async () => performance.now() > at;
}

async function open(id: number, command: SandboxCommand): Promise<void> {
  const { sink } = sinkFor({});
  const output: OutputSink = {
    write(stream, data) {
      process.send!({ event: 'output', id, stream, data });
      return sink.write(stream, data);
    },
    drained: sink.drained,
  };
  const session = jail!.open(command, { signal: new AbortController().signal, output });
  sessions.set(id, session);
  await session.started;
}

/** A run with a filter that is not what it must be, past the jail's own checks. */
async function runFiltered(id: number, command: SandboxCommand, filter: Uint8Array): Promise<HostResult> {
  const { sink, text } = sinkFor({});
  const etc = join(stateDir, `etc-${id}`);
  writeInnerEtc(etc);
  const run = new SandboxRun(
    command,
    {
      bwrap: '/usr/bin/bwrap',
      filters: { none: filter, proxy: filter },
      places: { toolchain: findToolchain(), etc, proxySocket: null },
      cgroups: null,
      log: createLog({ service: 'jail-host', level: 'silent' }),
    },
    { output: sink, stdin: 'given' },
  );
  const end = await run.ended;
  return { end, ...text(), delivered: end.stdoutBytes };
}

async function start(config: HostConfig): Promise<unknown> {
  stateDir = config.stateDir;
  const { uid, cgroups } = giveUpRoot({ folders: [stateDir] });
  const toolchain = findToolchain(config.toolchainRoot ? { root: config.toolchainRoot } : {});
  jail = await openJail(
    {
      log: createLog({ service: 'jail-host', level: 'error' }),
      stateDir,
      bwrap: config.bwrap ?? '/usr/bin:/bin',
      cgroups: config.withoutCgroup ? { ok: false, detail: 'left out by the test', remedy: 'none' } : cgroups,
      allowMissingCgroup: config.allowMissingCgroup ?? false,
      toolchain,
      proxySocket: config.proxySocket ?? null,
      spareLaunches: config.spareLaunches ?? 0,
    },
    { signal: new AbortController().signal },
  );
  return { uid, capabilities: jail.capabilities(), interpreters: toolchain.interpreters };
}

/** Asks for a test and leaves in the middle of it. */
async function leaveProbe(): Promise<unknown> {
  const asked = jail!.probe({ signal: AbortSignal.timeout(5) });
  const left = await asked.then(
    () => null,
    (error: Error) => error.name,
  );
  const after = await jail!.probe({ signal: new AbortController().signal }); // the same test
  return { left, tier: after.tier };
}

async function answer(request: HostRequest): Promise<unknown> {
  switch (request.kind) {
    case 'start':
      return start(request.config);
    case 'run':
      return run(request.id, request.command, request.settings);
    case 'filtered':
      return runFiltered(request.id, request.command, request.filter);
    case 'abort':
      return aborts.get(request.target)?.abort();
    case 'open':
      return open(request.id, request.command);
    case 'write':
      return sessions.get(request.target)!.write(request.data);
    case 'kill':
      return sessions.get(request.target)!.kill(request.reason as KillReason, { gentle: request.gentle });
    case 'ended':
      return sessions.get(request.target)!.ended;
    case 'probe':
      return jail!.probe({ signal: new AbortController().signal });
    case 'leave':
      return leaveProbe();
    case 'capabilities':
      return jail!.capabilities();
    case 'spoil':
      // The program of the self-test is no program any more.
      for (const name of readdirSync(stateDir)) rmSync(join(stateDir, name, 'probe'), { force: true });
      return null;
    case 'mend':
      for (const name of readdirSync(stateDir)) {
        if (name.startsWith('jail-')) writeFileSync(join(stateDir, name, 'probe'), syscallRunner(), { mode: 0o555 });
      }
      return null;
    case 'workspace':
      return mkdtempSync(join(stateDir, 'w-'));
    case 'census':
      return { fds: readdirSync('/proc/self/fd').length, running: jail!.running, state: readdirSync(stateDir) };
    case 'close':
      return jail!.close();
  }
}

process.on('message', (request: HostRequest) => {
  answer(request).then(
    (value) => process.send!({ event: 'answer', id: request.id, value }),
    (error) => {
      const { code, message, details } = error as { code?: string; message: string; details?: { reason?: string } };
      process.send!({ event: 'error', id: request.id, error: { code, message, reason: details?.reason } });
    },
  );
});
process.on('disconnect', () => process.exit(0));
