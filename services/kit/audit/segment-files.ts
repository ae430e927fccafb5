// The outbox's files as it uses them: one interface, so that tests can make a disk fail at any of its steps.
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

export type SegmentFile = {
  /** Appends at `at`; all bytes or an error. */
  write(bytes: Buffer, at: number): Promise<void>;
  truncate(length: number): Promise<void>;
  /** fdatasync. */
  datasync(): Promise<void>;
  close(): Promise<void>;
};

export type SegmentFiles = {
  /** For messages. */
  readonly dir: string;
  list(): Promise<string[]>;
  /** Bytes of a file that is there. */
  size(name: string): Promise<number>;
  read(name: string): Promise<Buffer | null>;
  readRange(name: string, at: number, length: number): Promise<Buffer>;
  open(name: string): Promise<SegmentFile>;
  /** Whole and durable, or not at all: temporary file, fdatasync, rename, fsync of the folder. */
  replace(name: string, bytes: Buffer): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes created and removed names durable. */
  syncFolder(): Promise<void>;
};

/** Positioned, all bytes or an error: the system may write fewer at once than it was given. */
export async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
}

/** fsync of a folder: its names. */
export async function syncPath(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The files of one folder, which is made (0700) when it is not there. */
export async function openSegmentFiles(dir: string): Promise<SegmentFiles> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const path = (name: string): string => join(dir, name);
  return {
    dir,
    list: async () => (await readdir(dir)).sort(),
    size: async (name) => (await stat(path(name))).size,
    read: (name) =>
      readFile(path(name)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return null;
        throw error;
      }),
    async readRange(name, at, length) {
      const file = await open(path(name), 'r');
      try {
        const bytes = Buffer.allocUnsafe(length);
        const { bytesRead } = await file.read(bytes, 0, length, at);
        return bytes.subarray(0, bytesRead);
      } finally {
        await file.close();
      }
    },
    async open(name) {
      const file = await open(path(name), 'a+', 0o600).then(async (made) => {
        await made.close();
        return open(path(name), 'r+'); // 'a' would ignore positions
      });
      return {
        write: (bytes, at) => writeAll(file, bytes, at),
        truncate: (length) => file.truncate(length),
        datasync: () => file.datasync(),
        close: () => file.close(),
      };
    },
    async replace(name, bytes) {
      const temporary = path(`${name}.new`);
      const file = await open(temporary, 'w', 0o600);
      try {
        await writeAll(file, bytes, 0);
        await file.datasync();
      } finally {
        await file.close();
      }
      await rename(temporary, path(name));
      await syncPath(dir);
    },
    remove: (name) => rm(path(name), { force: true }),
    syncFolder: () => syncPath(dir),
  };
}
