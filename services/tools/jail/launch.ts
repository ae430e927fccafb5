// One start of bubblewrap: its descriptors, what it says of itself, and the system call filter that lets the command go.
// bubblewrap reads the filter when all else is made. When this process dies first it reads an empty one, which the kernel
// refuses, so that nothing runs; a byte on --block-fd would not do: the end of that pipe lets the command go as well.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { encodeOptions, type LaunchPlaces, launchOptions, limitedCommand } from './launch-options.ts';
import type { NetworkMode, SandboxCommand } from './sandbox.ts';

export type LaunchParts = {
  /** Path of bubblewrap. */
  readonly bwrap: string;
  readonly filters: Readonly<Record<NetworkMode, Uint8Array>>;
  readonly places: LaunchPlaces;
};

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type Launch = {
  readonly child: ChildProcess;
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** PID 1 of the sandbox, by its number out here. Rejects when bubblewrap ends before it has said so. */
  readonly innerPid: Promise<number>;
  /** Lets the command start. */
  release(): void;
  /** Settles when bubblewrap has ended; never rejects. */
  readonly exited: Promise<Exit>;
  /** What bubblewrap says the command ended with; null: it never ran, or bubblewrap was killed. After `exited`. */
  exitCode(): Promise<number | null>;
};

const FILTER = 3;
const OPTIONS = 4;
const INFO = 5;
const STATUS = 6;

/** The same for every launch: what differs is in the pipe. */
export const BWRAP_ARGUMENTS: readonly string[] = [
  ...['--args', String(OPTIONS), '--seccomp', String(FILTER), '--info-fd', String(INFO)],
  ...['--json-status-fd', String(STATUS), '--'],
];

/** A peer that goes away (a failed launch) is told by `exited`; unheard, its error event would end this process. */
function quiet<S extends Readable | Writable>(stream: S): S {
  stream.on('error', () => {});
  return stream;
}

function collect(stream: Readable): { text(): string; ended: Promise<void>; onText(listen: () => void): void } {
  let text = '';
  let listener = (): void => {};
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  stream.setEncoding('utf8');
  stream.on('data', (part: string) => {
    text += part;
    listener();
  });
  stream.on('close', resolve);
  return {
    text: () => text,
    ended,
    onText(listen) {
      listener = listen;
    },
  };
}

/** Starts bubblewrap and returns at once; the command waits until release(). Throws what spawn throws. */
export function launch(
  command: SandboxCommand,
  parts: LaunchParts,
  options: { readonly withCgroup: boolean; readonly stdin: 'open' | 'given' },
): Launch {
  const argv = [...BWRAP_ARGUMENTS, ...limitedCommand(command, parts.places, options)];
  const takesInput = options.stdin === 'open' || command.stdin !== null;
  const child = spawn(parts.bwrap, argv, {
    stdio: [takesInput ? 'pipe' : 'ignore', ...Array<'pipe'>(6).fill('pipe')],
    env: {},
    cwd: '/',
    detached: true,
  });
  child.on('error', () => {}); // a signal that came too late; a failed start is seen below
  const streams = child.stdio.map((stream) => stream && quiet(stream as Readable & Writable));
  if (child.pid === undefined) {
    for (const stream of streams) stream?.destroy();
    throw new Error(`${parts.bwrap} cannot be started`);
  }
  const { promise: exited, resolve: setExited } = Promise.withResolvers<Exit>();
  child.on('exit', (code, signal) => setExited({ code, signal }));
  streams[OPTIONS]!.end(encodeOptions(launchOptions(command, parts.places)));
  const info = collect(streams[INFO]!);
  const status = collect(streams[STATUS]!);
  if (child.stdin && options.stdin === 'given') child.stdin.end(command.stdin!);
  const { promise: innerPid, resolve: setPid, reject: noPid } = Promise.withResolvers<number>();
  innerPid.catch(() => {}); // the caller may have turned to `exited` already
  info.onText(() => {
    const pid = /"child-pid"\s*:\s*(\d+)[\s,}]/.exec(info.text())?.[1];
    if (pid !== undefined) setPid(Number(pid));
  });
  exited.then(() => noPid(new Error('bubblewrap ended before the sandbox was made')));
  return {
    child,
    stdin: child.stdin,
    stdout: child.stdout!,
    stderr: child.stderr!,
    innerPid,
    release: () => void streams[FILTER]!.end(parts.filters[command.network]),
    exited,
    async exitCode() {
      await status.ended;
      const code = /"exit-code"\s*:\s*(\d+)/.exec(status.text())?.[1];
      for (const stream of streams.slice(FILTER)) stream?.destroy();
      return code === undefined ? null : Number(code);
    },
  };
}
