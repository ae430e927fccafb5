// A started program: its number, its ends of the sockets, its end. Node starts one by fork(), which copies the page tables of
// this process and costs milliseconds of its only thread; the addon does without (engine-native/src/napi/spawn). Where there
// is no addon, or the kernel is too old for it, Node's own way serves.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** It runs in a session of its own, in the folder /, and has no environment. */
export type ProgramOrder = {
  readonly path: string;
  /** The first is argv[0]. */
  readonly argv: readonly [string, ...string[]];
  /** 0 to descriptors-1 are sockets to this process, for both directions; there are no others. At least 3. */
  readonly descriptors: number;
  /** False: descriptor 0 is /dev/null. */
  readonly takesInput: boolean;
};

/** Both null: it has ended, and nobody knows how. */
export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type Program = {
  readonly pid: number;
  /** By descriptor; null is /dev/null. Descriptor 0 can only be written to, and is destroyed when the program ends. */
  readonly stdio: readonly (Duplex | null)[];
  /** Never rejects. Until then the program keeps this process alive. */
  readonly exited: Promise<Exit>;
  /** False: it has ended. Never reaches a process that has its number later. */
  kill(signal: NodeJS.Signals): boolean;
};

/** engine-native/src/napi/spawn/spawn_addon.cc. */
type Addon = {
  missing(): string | null;
  listen(onEnd: (id: number, code: number, signal: number) => void): void;
  start(
    path: string,
    argv: readonly string[],
    env: readonly string[],
    descriptors: number,
    takesInput: boolean,
  ): Int32Array;
  signal(id: number, number: number): boolean;
};

/** Throws when the program cannot be started. */
export type Start = (order: ProgramOrder) => Program;

export type NativeStart =
  | { readonly ok: true; readonly start: Start }
  | { readonly ok: false; readonly detail: string };

const ADDON_PATH = fileURLToPath(new URL('../../../engine-native/build/spawn_addon.node', import.meta.url));

function cannotStart(path: string, cause?: unknown): Error {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  return new Error(`${path} cannot be started${code === undefined ? '' : `: ${code}`}`, { cause });
}

/** Node's own way. */
export function startByNode({ path, argv, descriptors, takesInput }: ProgramOrder): Program {
  const [argv0, ...args] = argv;
  const child = spawn(path, args, {
    argv0,
    stdio: [takesInput ? 'pipe' : 'ignore', ...Array<'pipe'>(descriptors - 1).fill('pipe')],
    env: {},
    cwd: '/',
    detached: true,
  });
  child.on('error', () => {}); // a signal that came too late; a failed start is seen below
  const stdio = (child.stdio ?? []) as unknown as (Duplex | null)[]; // absent where no descriptor is left
  if (child.pid === undefined) {
    for (const stream of stdio) stream?.destroy();
    throw cannotStart(path);
  }
  const { promise: exited, resolve } = Promise.withResolvers<Exit>();
  child.on('exit', (code, signal) => resolve({ code, signal }));
  return { pid: child.pid, stdio, exited, kill: (signal) => child.kill(signal) };
}

/** Of two names for one number, the first that Node lists: SIGABRT, not SIGIOT. */
const signalNames = new Map(
  Object.entries(constants.signals)
    .reverse()
    .map(([name, number]) => [number, name as NodeJS.Signals]),
);

/** The programs that the addon has started and that have not ended, by its number for them. */
const running = new Map<number, (exit: Exit) => void>();

function startBy(addon: Addon): Start {
  addon.listen((id, code, signal) => {
    const end = running.get(id);
    running.delete(id);
    end?.({ code: code < 0 ? null : code, signal: signalNames.get(signal) ?? null });
  });
  return ({ path, argv, descriptors, takesInput }) => {
    let numbers: Int32Array;
    try {
      numbers = addon.start(path, argv, [], descriptors, takesInput);
    } catch (cause) {
      throw cannotStart(path, cause);
    }
    const [id, pid, ...fds] = numbers as unknown as [number, number, ...number[]];
    const stdio = fds.map((fd, at) => (fd < 0 ? null : new Socket({ fd, readable: at > 0, writable: true })));
    const { promise: exited, resolve } = Promise.withResolvers<Exit>();
    running.set(id, (exit) => {
      stdio[0]?.destroy();
      resolve(exit);
    });
    return { pid, stdio, exited, kill: (signal) => addon.signal(id, constants.signals[signal]) };
  };
}

/** The addon's way, or why there is none here. */
export function loadNativeStart(addonPath = ADDON_PATH): NativeStart {
  let addon: Addon;
  try {
    addon = createRequire(import.meta.url)(addonPath) as Addon;
  } catch (error) {
    return { ok: false, detail: (error as Error).message.split('\n', 1)[0]! };
  }
  const missing = addon.missing();
  if (missing !== null) return { ok: false, detail: `this kernel, or a filter of its calls, has no ${missing}` };
  return { ok: true, start: startBy(addon) };
}

let native: NativeStart | null = null;

/** The addon's way in this process, loaded once. */
export function nativeStart(): NativeStart {
  native ??= loadNativeStart();
  return native;
}

/** Starts a program and returns when it runs. Throws when it does not. */
export function startProgram(order: ProgramOrder): Program {
  const found = nativeStart();
  return found.ok ? found.start(order) : startByNode(order);
}
