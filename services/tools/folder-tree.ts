// Walking and removing folders that a tool may change at the same moment, or has made to be hard to walk: every step goes from an
// open folder to a name in it and never follows a link, so nothing outside is reached and no path is too long. Nothing but
// folders is opened. Names are bytes: as text in latin1, one character per byte.
import {
  chmodSync,
  closeSync,
  constants,
  type Dir,
  fchmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  openSync,
  renameSync,
  rmdirSync,
  type Stats,
  unlinkSync,
} from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { QuernError } from '#kit/errors.ts';
import { WORKSPACE_DEPTH_MAX, WORKSPACE_SLICE_ENTRIES } from './tool-limits.ts';
import { ulid } from './ulid.ts';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
/** Opens without any right on what it opens; Node does not name it. */
const O_PATH = 0o10000000;

export type TreeEntry = {
  /** Names from the root on, in latin1. */
  readonly path: readonly string[];
  readonly kind: 'file' | 'folder' | 'link' | 'other';
  readonly stat: Stats;
  /** The open folder that it is in, while it is visited. */
  readonly folder: number;
  readonly name: string;
};

/** A name in an open folder, as a path that cannot lead elsewhere. */
export function inFolder(folder: number, name: string): Buffer {
  return Buffer.from(`/proc/self/fd/${folder}/${name}`, 'latin1');
}

function isCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}

/** Gives the owner of a folder all rights, whatever they were. */
function makeOurs(path: Buffer | string): void {
  const handle = openSync(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  try {
    chmodSync(`/proc/self/fd/${handle}`, 0o700);
  } finally {
    closeSync(handle);
  }
}

/** Opens a folder by path or in another; one that its owner may not read or enter is made readable. Throws ENOTDIR, ELOOP, ENOENT. */
export function openFolder(path: Buffer | string): number {
  try {
    const folder = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if ((fstatSync(folder).mode & 0o100) === 0) fchmodSync(folder, 0o700);
    return folder;
  } catch (error) {
    if (!isCode(error, 'EACCES')) throw error;
    makeOurs(path);
    return openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }
}

/** Between folders: a folder without rights of its own cannot be moved. */
function moveFolder(from: Buffer | string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!isCode(error, 'EACCES')) throw error;
    makeOurs(from);
    renameSync(from, to);
  }
}

function kindOf(stat: Stats): TreeEntry['kind'] {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'folder';
  return stat.isSymbolicLink() ? 'link' : 'other';
}

function* namesIn(folder: number): Generator<string> {
  const stream: Dir = opendirSync(`/proc/self/fd/${folder}`, {
    encoding: 'latin1',
    bufferSize: WORKSPACE_SLICE_ENTRIES,
  });
  try {
    for (let entry = stream.readSync(); entry; entry = stream.readSync()) yield entry.name;
  } finally {
    stream.closeSync();
  }
}

/** What a name is now; null: gone. */
function look(folder: number, name: string): Stats | null {
  return lstatSync(inFolder(folder, name), { throwIfNoEntry: false }) ?? null;
}

/** What lies deeper than WORKSPACE_DEPTH_MAX, without the names on the way. */
export type DeepEntry = Omit<TreeEntry, 'path'> & { readonly depth: number };

export type TreeOptions = {
  readonly signal: AbortSignal;
  /** Visits what lies too deep for names on the way; undefined: such a tree is refused. */
  readonly deeper?: (entry: DeepEntry) => void;
};

/** May take time: then the walk waits for it. */
type Visit = (entry: TreeEntry) => void | Promise<void>;

type Walk = TreeOptions & { visit: Visit; seen: number };

function tooDeep(why: string): QuernError {
  return new QuernError('RESOURCE_EXHAUSTED', why, { reason: 'WORKSPACE_TOO_DEEP' });
}

/** Before each entry: others get their turn now and then. */
async function step(walk: Walk): Promise<void> {
  if (++walk.seen % WORKSPACE_SLICE_ENTRIES !== 0) return;
  await nextTurn();
  walk.signal.throwIfAborted();
}

/**
 * Visits a tree of any depth with two descriptors: back from a folder leads "..", which must be where it came from. `folder` is
 * closed.
 */
async function walkDeep(walk: Walk, folder: number, visit: (entry: DeepEntry) => void): Promise<void> {
  let at = folder;
  const way: { dev: number; ino: number; names: string[] }[] = [];
  const arrive = (): void => {
    const { dev, ino } = fstatSync(at);
    way.push({ dev, ino, names: [...namesIn(at)] });
  };
  const go = (next: number): void => {
    closeSync(at);
    at = next;
  };
  try {
    arrive();
    for (let here = way.at(-1); here; here = way.at(-1)) {
      const name = here.names.pop();
      if (name === undefined) {
        way.pop();
        const above = way.at(-1);
        if (!above) return;
        go(openFolder(inFolder(at, '..')));
        const { dev, ino } = fstatSync(at);
        if (dev !== above.dev || ino !== above.ino) {
          throw tooDeep(`folders more than ${WORKSPACE_DEPTH_MAX} deep were moved while they were looked at`);
        }
        continue;
      }
      await step(walk);
      const stat = look(at, name);
      if (!stat) continue;
      const kind = kindOf(stat);
      visit({ kind, stat, folder: at, name, depth: WORKSPACE_DEPTH_MAX + 1 + way.length });
      const inner = kind === 'folder' ? openInner(at, name) : null;
      if (inner === null) continue;
      go(inner);
      arrive();
    }
  } finally {
    closeSync(at);
  }
}

async function walkFolder(walk: Walk, folder: number, path: readonly string[]): Promise<void> {
  for (const name of namesIn(folder)) {
    await step(walk);
    const stat = look(folder, name);
    if (!stat) continue;
    const entry: TreeEntry = { path: [...path, name], kind: kindOf(stat), stat, folder, name };
    const visiting = walk.visit(entry);
    if (visiting) await visiting;
    if (entry.kind === 'folder') await enter(walk, entry);
  }
}

/** Null: it has become something else. */
function openInner(folder: number, name: string): number | null {
  try {
    return openFolder(inFolder(folder, name));
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return null;
    throw error;
  }
}

async function enter(walk: Walk, { folder, name, path }: TreeEntry): Promise<void> {
  const inner = openInner(folder, name);
  if (inner === null) return;
  if (path.length > WORKSPACE_DEPTH_MAX && walk.deeper) return walkDeep(walk, inner, walk.deeper);
  try {
    if (path.length > WORKSPACE_DEPTH_MAX) throw tooDeep(`expected folders at most ${WORKSPACE_DEPTH_MAX} deep`);
    await walkFolder(walk, inner, path);
  } finally {
    closeSync(inner);
  }
}

/**
 * Visits everything below `root`, a folder before what is in it. `visit` may throw to end the walk. Throws RESOURCE_EXHAUSTED,
 * reason WORKSPACE_TOO_DEEP, and the signal's reason.
 */
export async function walkTree(root: string, visit: Visit, options: TreeOptions): Promise<void> {
  const folder = openFolder(root);
  try {
    await walkFolder({ ...options, visit, seen: 0 }, folder, []);
  } finally {
    closeSync(folder);
  }
}

/** Empties a folder. Folders too deep to be held open all at once move to `trash` and are emptied from there. */
async function emptyFolder(folder: number, trash: string, depth: number, moved: string[]): Promise<void> {
  fchmodSync(folder, 0o700);
  let done = 0;
  for (const name of [...namesIn(folder)]) {
    if (++done % WORKSPACE_SLICE_ENTRIES === 0) await nextTurn();
    const path = inFolder(folder, name);
    const stat = look(folder, name);
    if (!stat) continue;
    if (!stat.isDirectory()) {
      unlinkSync(path);
    } else if (depth >= WORKSPACE_DEPTH_MAX) {
      const place = `${trash}/${ulid()}`;
      moveFolder(path, place);
      moved.push(place);
    } else {
      const inner = openFolder(path);
      try {
        await emptyFolder(inner, trash, depth + 1, moved);
      } finally {
        closeSync(inner);
      }
      rmdirSync(path);
    }
  }
}

/**
 * Removes a folder with all that is in it, however deep and whatever its modes. It moves to `trash`, a folder of the same file
 * system, first, so that it is gone at once. Nothing may write to it any more.
 */
export async function removeTree(path: string, trash: string): Promise<void> {
  mkdirSync(trash, { recursive: true, mode: 0o700 });
  const place = `${trash}/${ulid()}`;
  try {
    moveFolder(path, place);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return;
    throw error;
  }
  await emptyTrash(trash, [place]);
}

/** Removes these folders of the trash, or all that a removal before was cut off in. */
export async function emptyTrash(trash: string, places: readonly string[]): Promise<void> {
  const pending = [...places];
  for (let place = pending.pop(); place !== undefined; place = pending.pop()) {
    const stat = lstatSync(place, { throwIfNoEntry: false });
    if (!stat) continue;
    if (!stat.isDirectory()) {
      unlinkSync(place);
      continue;
    }
    const folder = openFolder(place);
    try {
      await emptyFolder(folder, trash, 0, pending);
    } finally {
      closeSync(folder);
    }
    rmdirSync(place);
  }
}

/**
 * Opens a regular file below `root` for reading, through folders only: no link, FIFO, device or socket is opened or followed.
 * Null: there is no such file. The caller closes it.
 */
export function openPlainFile(root: string, path: readonly string[]): { file: number; stat: Stats } | null {
  let folder = openFolder(root);
  try {
    for (const name of path.slice(0, -1)) {
      const next = openSync(inFolder(folder, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      closeSync(folder);
      folder = next;
    }
    const file = openSync(inFolder(folder, path.at(-1) ?? ''), O_RDONLY | O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = fstatSync(file);
    if (stat.isFile()) return { file, stat };
    closeSync(file);
    return null;
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES', 'ENXIO', 'ENODEV', 'ENAMETOOLONG')) return null;
    throw error;
  } finally {
    closeSync(folder);
  }
}
