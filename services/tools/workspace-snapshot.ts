// A copy of a workspace in one file. For each entry: length of its header (4 bytes, little-endian), header (JSON), content. The
// last header holds the SHA-256 of all before it: what was cut off or changed is never gone back to.
import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsync as fsyncCallback,
  futimesSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { QuernError } from '#kit/errors.ts';
import { inFolder, type TreeEntry, walkTree } from './folder-tree.ts';
import { SNAPSHOT_HEADER_BYTES_MAX, WORKSPACE_DEPTH_MAX, WORKSPACE_SLICE_ENTRIES } from './tool-limits.ts';

type Header =
  | { kind: 'folder'; path: string[]; mode: number }
  | { kind: 'file'; path: string[]; mode: number; size: number; mtimeMs: number }
  | { kind: 'link'; path: string[]; target: string }
  | { kind: 'end'; sha256: string };

export type SnapshotBounds = { readonly bytesMax: number; readonly entriesMax: number };

const fsync = promisify(fsyncCallback);
/** Copied before others get their turn. */
const CHUNK_BYTES = 1024 * 1024;

function writeWhole(file: number, data: Buffer): void {
  for (let rest = data; rest.length > 0; ) rest = rest.subarray(writeSync(file, rest));
}

class SnapshotWriter {
  readonly #file: number;
  readonly #digest: Hash = createHash('sha256');
  #pending: Buffer[] = [];
  #pendingBytes = 0;

  constructor(file: number) {
    this.#file = file;
  }

  add(data: Buffer): void {
    this.#digest.update(data);
    this.#pending.push(data);
    this.#pendingBytes += data.length;
    if (this.#pendingBytes >= CHUNK_BYTES) this.flush();
  }

  header(header: Header): void {
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    this.add(Buffer.concat([length, json]));
  }

  end(): void {
    this.header({ kind: 'end', sha256: this.#digest.copy().digest('hex') });
    this.flush();
  }

  flush(): void {
    writeWhole(this.#file, Buffer.concat(this.#pending));
    this.#pending = [];
    this.#pendingBytes = 0;
  }
}

async function takeTurns(signal: AbortSignal): Promise<void> {
  await nextTurn();
  signal.throwIfAborted();
}

/** Exactly `size` bytes, zeros where the file has become shorter: what comes after must stay in place. */
async function copyFile(writer: SnapshotWriter, file: number, size: number, signal: AbortSignal): Promise<void> {
  for (let left = size; left > 0; ) {
    if (left < size) await takeTurns(signal);
    const chunk = Buffer.alloc(Math.min(left, CHUNK_BYTES));
    readSync(file, chunk, 0, chunk.length, size - left);
    writer.add(chunk);
    left -= chunk.length;
  }
}

/** False: nothing that can be kept (a FIFO, a socket, a device, a file that has gone). */
async function addEntry(writer: SnapshotWriter, entry: TreeEntry, signal: AbortSignal): Promise<boolean> {
  const { kind, stat, folder, name, path } = entry;
  const at = inFolder(folder, name);
  const common = { path: [...path], mode: stat.mode & 0o777 };
  if (kind === 'folder') writer.header({ kind, ...common });
  else if (kind === 'link') writer.header({ kind, path: [...path], target: readlinkSync(at, { encoding: 'latin1' }) });
  else if (kind === 'file') {
    const file = openSync(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const now = fstatSync(file);
      if (!now.isFile()) return false;
      writer.header({ kind, ...common, size: now.size, mtimeMs: now.mtimeMs });
      await copyFile(writer, file, now.size, signal);
    } finally {
      closeSync(file);
    }
  }
  return kind !== 'other';
}

/**
 * Writes a copy of `root` to the file `to`, whole or not at all. Links are kept as links; FIFOs, sockets and devices are left
 * out. Throws RESOURCE_EXHAUSTED, reason WORKSPACE_TOO_LARGE, beyond the bounds.
 */
export async function writeSnapshot(
  root: string,
  to: string,
  { bytesMax, entriesMax }: SnapshotBounds,
  options: { signal: AbortSignal },
): Promise<{ bytes: number; files: number }> {
  const temporary = `${to}.tmp`;
  const file = openSync(temporary, 'wx', 0o600);
  const writer = new SnapshotWriter(file);
  let bytes = 0;
  let files = 0;
  try {
    await walkTree(
      root,
      async (entry) => {
        if (entry.kind === 'file') bytes += entry.stat.size;
        if (bytes > bytesMax || files >= entriesMax) {
          const message = `expected a workspace of at most ${bytesMax} bytes and ${entriesMax} entries`;
          throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'WORKSPACE_TOO_LARGE' });
        }
        if (await addEntry(writer, entry, options.signal)) files++;
      },
      options,
    );
    writer.end();
    await fsync(file); // or a power cut could leave the name with nothing in it
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
  await rename(temporary, to);
  return { bytes, files };
}

function damaged(): QuernError {
  return new QuernError('DATA_LOSS', 'the copy of the workspace is damaged; it is not used', {
    reason: 'SNAPSHOT_DAMAGED',
  });
}

class SnapshotReader {
  readonly #file: number;
  readonly #digest: Hash = createHash('sha256');

  constructor(file: number) {
    this.#file = file;
  }

  take(length: number): Buffer {
    const data = Buffer.alloc(length);
    for (let at = 0; at < length; ) {
      const count = readSync(this.#file, data, at, length - at, null);
      if (count === 0) throw damaged();
      at += count;
    }
    return data;
  }

  /** The next header; its bytes count towards the digest unless it is the end, which is checked against it. */
  header(): Header {
    const length = this.take(4);
    const size = length.readUInt32LE();
    if (size > SNAPSHOT_HEADER_BYTES_MAX) throw damaged();
    const json = this.take(size);
    const header = parseHeader(json);
    if (header.kind === 'end' && header.sha256 !== this.#digest.digest('hex')) throw damaged();
    if (header.kind !== 'end') this.#digest.update(length).update(json);
    return header;
  }

  content(length: number): Buffer {
    const data = this.take(length);
    this.#digest.update(data);
    return data;
  }
}

const isName = (name: unknown): boolean =>
  typeof name === 'string' && name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name);

function parseHeader(json: Buffer): Header {
  try {
    const header = JSON.parse(json.toString('utf8')) as Header;
    if (header.kind === 'end') return header;
    const { path } = header;
    if (Array.isArray(path) && path.length <= WORKSPACE_DEPTH_MAX + 1 && path.every(isName)) return header;
  } catch {
    // told below
  }
  throw damaged();
}

async function restoreEntry(
  reader: SnapshotReader,
  root: string,
  header: Exclude<Header, { kind: 'end' }>,
  signal: AbortSignal,
): Promise<void> {
  const at = Buffer.from(`${root}/${header.path.join('/')}`, 'latin1');
  if (header.kind === 'folder') {
    mkdirSync(at, { mode: header.mode | 0o700 });
  } else if (header.kind === 'link') {
    symlinkSync(Buffer.from(header.target, 'latin1'), at);
  } else {
    const file = openSync(at, 'wx', header.mode | 0o600);
    try {
      for (let left = header.size; left > 0; left -= CHUNK_BYTES) {
        if (left < header.size) await takeTurns(signal);
        writeWhole(file, reader.content(Math.min(left, CHUNK_BYTES)));
      }
      futimesSync(file, header.mtimeMs / 1000, header.mtimeMs / 1000);
    } finally {
      closeSync(file);
    }
  }
}

/** Makes the folder `root`, which does not exist yet, from a copy. Throws DATA_LOSS for a damaged one; `root` is then unfinished. */
export async function restoreSnapshot(from: string, root: string, { signal }: { signal: AbortSignal }): Promise<void> {
  const file = openSync(from, 'r');
  try {
    const reader = new SnapshotReader(file);
    mkdirSync(root, { mode: 0o700 });
    for (let count = 1; ; count++) {
      const header = reader.header();
      if (header.kind === 'end') return;
      await restoreEntry(reader, root, header, signal);
      if (count % WORKSPACE_SLICE_ENTRIES === 0) await takeTurns(signal);
    }
  } finally {
    closeSync(file);
  }
}

/** Of all copies in a folder, which need not be there. */
export async function snapshotBytes(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => []);
  const sizes = await Promise.all(names.map((name) => stat(join(folder, name)).then(({ size }) => size)));
  return sizes.reduce((sum, size) => sum + size, 0);
}
