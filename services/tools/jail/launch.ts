// One start of bubblewrap: its descriptors, what it says of itself, and the orders that let the command go. bubblewrap is
// started before there is a command, waits for its options, and makes the sandbox only then. When this process dies before
// it has sent them all, bubblewrap refuses what came; when it dies before the orders, the starter does (starter.ts).
import type { Readable, Writable } from 'node:stream';
import { encodeOptions, type LaunchPlaces, launchOptions, type MountBelow } from './launch-options.ts';
import { type Exit, type Program, startProgram } from './program.ts';
import type { NetworkMode, SandboxCommand } from './sandbox.ts';
import { ownLaunchMark } from './stale-launches.ts';
import { STARTER_FD, STARTER_PATH, starterMemory } from './starter.ts';

export type LaunchParts = {
  /** Path of bubblewrap. */
  readonly bwrap: string;
  readonly filters: Readonly<Record<NetworkMode, Uint8Array>>;
  readonly places: LaunchPlaces;
};

export type BeginOptions = { readonly withCgroup: boolean; readonly below: readonly MountBelow[] };

export type Launch = {
  readonly program: Program;
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Has the sandbox made for this command, with these mounts below the workspace. */
  begin(command: SandboxCommand, parts: LaunchParts, options: BeginOptions): void;
  /** PID 1 of the sandbox, by its number out here. Rejects when bubblewrap ends before it has said so. */
  readonly innerPid: Promise<number>;
  /** Settles when all is made and the starter, behind the filter, waits for the command. Rejects as innerPid does. */
  readonly made: Promise<void>;
  /** Lets the command start. */
  release(): void;
  /** Settles when bubblewrap has ended; never rejects. */
  readonly exited: Promise<Exit>;
  /** What bubblewrap says the command ended with; null: it never ran, or bubblewrap was killed. After `exited`. */
  exitCode(): Promise<number | null>;
};

const FILTER = 3;
const OPTIONS = 4;
const STATUS = 5;

/**
 * The same for every launch, behind whose it is: what differs is in the pipes. --disable-userns is here so that bubblewrap refuses
 * options without --unshare-user, which is their last.
 */
export const BWRAP_ARGUMENTS: readonly string[] = [
  ...['--args', String(OPTIONS), '--seccomp', String(FILTER), '--json-status-fd', String(STATUS)],
  ...['--disable-userns', '--', STARTER_PATH],
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

/** Starts bubblewrap and returns at once; it waits for begin(). Throws what startProgram throws. */
export function launch(bwrap: string, { takesInput }: { readonly takesInput: boolean }): Launch {
  const argv = [ownLaunchMark(), ...BWRAP_ARGUMENTS] as const;
  const program = startProgram({ path: bwrap, argv, descriptors: STARTER_FD + 1, takesInput });
  const streams = program.stdio.map((stream) => stream && quiet(stream));
  const { exited } = program;
  const status = collect(streams[STATUS]!);
  const { promise: innerPid, resolve: setPid, reject: noPid } = Promise.withResolvers<number>();
  const { promise: made, resolve: setMade, reject: notMade } = Promise.withResolvers<void>();
  for (const promise of [innerPid, made]) promise.catch(() => {}); // the caller may have turned to `exited` already
  status.onText(() => {
    const pid = /"child-pid"\s*:\s*(\d+)[\s,}]/.exec(status.text())?.[1];
    if (pid !== undefined) setPid(Number(pid));
  });
  streams[STARTER_FD]!.once('data', () => setMade());
  exited.then(() => {
    const error = new Error('bubblewrap ended before the sandbox was made');
    noPid(error);
    notMade(error);
  });
  let orders: Uint8Array | null = null;
  return {
    program,
    stdin: streams[0]!,
    stdout: streams[1]!,
    stderr: streams[2]!,
    begin(command, { filters, places }, how) {
      orders = starterMemory(command, how);
      streams[OPTIONS]!.end(encodeOptions(launchOptions(command, places, how.below)));
      streams[FILTER]!.end(filters[command.network]);
    },
    innerPid,
    made,
    release: () => void streams[STARTER_FD]!.end(orders),
    exited,
    async exitCode() {
      await status.ended;
      const code = /"exit-code"\s*:\s*(\d+)/.exec(status.text())?.[1];
      for (const stream of streams.slice(FILTER)) stream?.destroy();
      return code === undefined ? null : Number(code);
    },
  };
}
