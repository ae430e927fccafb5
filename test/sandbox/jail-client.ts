/** Starts jail-host.ts and talks to it: the way every test here runs commands in real sandboxes. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownV1Folders, ownV2Folder, readCgroupView } from '../../services/tools/jail/cgroup-subtree.ts';
import { foldersIn } from '../../services/tools/jail/cgroups.ts';
import type {
  Capabilities,
  KillReason,
  SandboxCommand,
  SandboxEnd,
  SandboxLimits,
} from '../../services/tools/jail/sandbox.ts';
import type { Interpreter } from '../../services/tools/jail/toolchain.ts';

/** A test's context, or the hooks of a whole file. */
export type Cleanup = { after(fn: () => unknown): void };

export type HostConfig = {
  stateDir: string;
  bwrap?: string;
  withoutCgroup?: boolean;
  allowMissingCgroup?: boolean;
  proxySocket?: string;
  toolchainRoot?: string;
  /** Launches made ahead; default none, so that what is left after a run is that run's. */
  spareLaunches?: number;
};

export type RunSettings = {
  abortAfterMs?: number;
  /** The sink says "full" after every write and takes more after this long. */
  holdMs?: number;
  diskFullAfterMs?: number;
  /** Processes that the host kills in the same moment as it begins the run. */
  killsFirst?: number[];
  keepBytes?: number;
  /** Also give stdout as bytes. */
  raw?: boolean;
};

type PlainKind = 'probe' | 'leave' | 'spoil' | 'mend' | 'capabilities' | 'workspace' | 'census' | 'close';

export type HostRequest =
  | { id: number; kind: 'start'; config: HostConfig }
  | { id: number; kind: 'run'; command: SandboxCommand; settings: RunSettings }
  | { id: number; kind: 'filtered'; command: SandboxCommand; filter: Uint8Array }
  | { id: number; kind: 'abort'; target: number }
  | { id: number; kind: 'open'; command: SandboxCommand }
  | { id: number; kind: 'write'; target: number; data: Uint8Array }
  | { id: number; kind: 'kill'; target: number; reason: KillReason; gentle: boolean }
  | { id: number; kind: 'ended'; target: number }
  | { id: number; kind: PlainKind };

export type HostResult = { end: SandboxEnd; stdout: string; stderr: string; delivered: number; bytes?: Uint8Array };
export type Census = { fds: number; running: number; state: string[] };

type Reply =
  | { event: 'answer'; id: number; value: unknown }
  | { event: 'error'; id: number; error: { code?: string; message: string; reason?: string } }
  | { event: 'output'; id: number; stream: 'stdout' | 'stderr'; data: Uint8Array };

const MIB = 1024 ** 2;
export const LIMITS: SandboxLimits = {
  wallMs: 20_000,
  cpuMs: 20_000,
  memoryBytes: 256 * MIB,
  pids: 64,
  openFiles: 256,
  fileBytes: 64 * MIB,
  outputBytes: 8 * MIB,
  tmpBytes: 16 * MIB,
};

export type CommandParts = Partial<Omit<SandboxCommand, 'limits'>> & { limits?: Partial<SandboxLimits> };

export type JailClient = {
  readonly host: ChildProcess;
  readonly folder: string;
  readonly uid: number;
  readonly capabilities: Capabilities;
  readonly interpreters: Readonly<Record<Interpreter, string | null>>;
  run(argv: readonly string[], parts?: CommandParts, settings?: RunSettings): Promise<HostResult>;
  /** Runs a Python program that is given as text. */
  python(program: string, parts?: CommandParts, settings?: RunSettings): Promise<HostResult>;
  bash(script: string, parts?: CommandParts, settings?: RunSettings): Promise<HostResult>;
  session(argv: readonly string[], parts?: CommandParts): Promise<JailSession>;
  /** Runs a command with a filter of the test's. */
  filtered(argv: readonly string[], filter: Uint8Array): Promise<HostResult>;
  ask<T>(request: Omit<Extract<HostRequest, { kind: PlainKind }>, 'id'>): Promise<T>;
};

export type JailSession = {
  write(text: string): Promise<void>;
  kill(reason: KillReason, gentle?: boolean): Promise<SandboxEnd>;
  readonly ended: Promise<SandboxEnd>;
  /** All output so far. */
  text(): string;
  /** Settles when the output contains this. */
  until(part: string): Promise<void>;
};

export function commandOf(argv: readonly string[], parts: CommandParts = {}): SandboxCommand {
  return {
    argv,
    env: {},
    stdin: null,
    workspace: null,
    binds: [],
    network: 'none',
    ...parts,
    limits: { ...LIMITS, ...parts.limits },
  };
}

/** An error of the host, with the code it had there. */
export class HostError extends Error {
  readonly code: string | undefined;
  readonly reason: string | undefined;

  constructor({ code, message, reason }: { code?: string; message: string; reason?: string }) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

/** A host's own cgroups: below this process's groups, since the host is its child, and named for it. */
export function subtrees(hostPid: number): string[] {
  const view = readCgroupView();
  const v2 = ownV2Folder(view);
  const own = [...Object.values(ownV1Folders(view)), ...(v2 ? [v2] : [])];
  return [...new Set(own)].flatMap((folder) =>
    foldersIn(folder)
      .filter((name) => name.startsWith(`quern-tools-${hostPid}-`))
      .map((name) => join(folder, name)),
  );
}

/** Groups of a host's runs. */
export function runGroups(hostPid: number): string[] {
  return subtrees(hostPid).flatMap((folder) => foldersIn(folder).filter((name) => name.startsWith('run-')));
}

function exchange(host: ChildProcess): {
  send<T>(request: Record<string, unknown> & { id?: number }): Promise<T>;
  nextId(): number;
  outputs: Map<number, (text: string) => void>;
} {
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const outputs = new Map<number, (text: string) => void>();
  let last = 0;
  host.on('message', (reply: Reply) => {
    if (reply.event === 'output') return outputs.get(reply.id)?.(Buffer.from(reply.data).toString());
    const entry = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.event === 'answer') entry?.resolve(reply.value);
    else entry?.reject(new HostError(reply.error));
  });
  host.on('exit', (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`the host ended: ${signal ?? code}`));
  });
  return {
    outputs,
    nextId: () => ++last,
    send<T>(request: Record<string, unknown> & { id?: number }): Promise<T> {
      const id = request.id ?? ++last;
      return new Promise<T>((resolve, reject) => {
        waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
        host.send({ ...request, id }, (error) => error && reject(error));
      });
    },
  };
}

/** Starts a host whose jail is open, whatever its tier; everything is gone after the test. */
export async function startJail(
  t: Cleanup,
  config: Partial<HostConfig> = {},
  options: {
    /** Where every execve of the host and its children is written down. */
    strace?: string;
  } = {},
): Promise<JailClient> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-jail-'));
  chmodSync(folder, 0o755); // the host gives root up and must get in
  const traced = options.strace && {
    execPath: '/usr/bin/strace',
    execArgv: ['-f', '-qq', '-s', '4096', '-e', 'trace=execve,execveat', '-o', options.strace, process.execPath],
  };
  const host = fork(join(import.meta.dirname, 'jail-host.ts'), [], { serialization: 'advanced', ...traced });
  const exited = once(host, 'exit');
  t.after(async () => {
    if (host.exitCode === null && host.signalCode === null) {
      await link.send({ kind: 'close' }).catch(() => {});
      if (host.connected) host.disconnect(); // it ends then; under strace a signal would only reach strace
      const timer = setTimeout(() => host.kill('SIGKILL'), 5_000);
      await exited;
      clearTimeout(timer);
    }
    rmSync(folder, { recursive: true, force: true });
    for (const subtree of subtrees(host.pid!)) removeIfEmpty(subtree);
  });
  const link = exchange(host);
  type Started = { uid: number; capabilities: Capabilities; interpreters: JailClient['interpreters'] };
  const started = await link.send<Started>({
    kind: 'start',
    config: { stateDir: join(folder, 'state'), ...config },
  });
  const run: JailClient['run'] = (argv, parts, settings = {}) =>
    link.send({ kind: 'run', command: commandOf(argv, parts), settings });
  return {
    host,
    folder,
    ...started,
    run,
    python: (program, parts, settings) => run([started.interpreters.python!, '-c', program], parts, settings),
    bash: (script, parts, settings) => run([started.interpreters.bash!, '-c', script], parts, settings),
    filtered: (argv, filter) => link.send({ kind: 'filtered', command: commandOf(argv), filter }),
    session: (argv, parts) => openSession(link, commandOf(argv, parts)),
    ask: (request) => link.send(request),
  };
}

async function openSession(link: ReturnType<typeof exchange>, command: SandboxCommand): Promise<JailSession> {
  const target = link.nextId();
  let text = '';
  let look = (): void => {};
  link.outputs.set(target, (part) => {
    text += part;
    look();
  });
  await link.send({ kind: 'open', id: target, command });
  return {
    text: () => text,
    until: (part) =>
      new Promise((resolve) => {
        look = () => text.includes(part) && resolve();
        look();
      }),
    write: (data) => link.send({ kind: 'write', target, data: Buffer.from(data) }),
    kill: (reason, gentle = false) => link.send({ kind: 'kill', target, reason, gentle }),
    get ended() {
      return link.send<SandboxEnd>({ kind: 'ended', target });
    },
  };
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // A later host's start removes it.
  }
}

/** Starts a jail that must be whole: what is missing fails the test with its reason and remedy. */
export async function startWholeJail(t: Cleanup): Promise<JailClient> {
  const client = await startJail(t);
  const missing = client.capabilities.list.filter(({ available }) => !available);
  const told = missing.map(({ name, detail, remedy }) => `${name}: ${detail}; ${remedy}`).join('\n');
  assert.equal(client.capabilities.tier, 'A', `the sandbox is not whole on this machine:\n${told}`);
  return client;
}
