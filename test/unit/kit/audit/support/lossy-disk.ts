// A disk under real files that forgets as Linux does: an fdatasync that fails takes the pages for clean, so what was written since
// the one before stays readable until the power fails, and is not on the disk unless it is written again. Files only grow, or are cut.
import { readdirSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { type FileHandle, mkdir, open, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { TestContext } from 'node:test';

type Inode = number;
type Range = { from: number; to: number };
/** `path`: below the folder. A sync of a folder is one of its names. */
export type DiskStep =
  | { step: 'write'; path: string; at: number; bytes: Buffer }
  | { step: 'cut'; path: string }
  | { step: 'sync'; path: string };

export type LossyDisk = {
  /** Files and folders whose paths match are not synced: EIO. */
  fails: RegExp | null;
  /** What was done, and worked, since it was last emptied. */
  steps: DiskStep[];
  /** What the disk has now, in a folder of its own. */
  powerFailure(to: string): Promise<void>;
};

const without = ({ from, to }: Range, gone: Range): Range[] =>
  [
    { from, to: Math.min(to, gone.from) },
    { from: Math.max(from, gone.to), to },
  ].filter((rest) => rest.from < rest.to);

/** What `dir` and the folders in it have on the disk. Of the folders themselves it is taken for granted that they are there. */
class Platter {
  readonly #files = new Map<Inode, Buffer>();
  /** Read from memory, not on the disk, and clean. */
  readonly #lost = new Map<Inode, Range[]>();
  readonly #folders = new Map<string, Map<string, Inode>>();

  wrote(path: string, written: Range): void {
    const { ino } = statSync(path);
    const lost = (this.#lost.get(ino) ?? []).flatMap((range) => without(range, written));
    this.#lost.set(ino, lost);
  }

  lost(path: string): void {
    const { ino, size } = statSync(path);
    const from = this.#files.get(ino)?.length ?? 0;
    this.#lost.set(ino, [...(this.#lost.get(ino) ?? []), { from, to: size }]);
  }

  synced(path: string): void {
    const stat = statSync(path);
    if (stat.isDirectory()) {
      const names = readdirSync(path, { withFileTypes: true }).filter((one) => one.isFile());
      this.#folders.set(path, new Map(names.map(({ name }) => [name, statSync(join(path, name)).ino])));
      return;
    }
    const bytes = readFileSync(path);
    for (const { from, to } of this.#lost.get(stat.ino) ?? []) bytes.fill(0, from, Math.min(to, bytes.length));
    this.#files.set(stat.ino, bytes);
  }

  async copy(root: string, to: string): Promise<void> {
    for (const [folder, names] of this.#folders) {
      const copy = join(to, relative(root, folder));
      await mkdir(copy, { recursive: true });
      for (const [name, inode] of names)
        await writeFile(join(copy, name), this.#files.get(inode) ?? Buffer.alloc(0), { mode: 0o600 });
    }
  }
}

type Work = () => Promise<unknown>;

class Disk implements LossyDisk {
  fails: RegExp | null = null;
  steps: DiskStep[] = [];
  readonly #platter = new Platter();
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  powerFailure(to: string): Promise<void> {
    return this.#platter.copy(this.#dir, to);
  }

  has(path: string): boolean {
    return `${path}/`.startsWith(`${this.#dir}/`);
  }

  async write(path: string, work: Work, [bytes, offset, length, at]: WriteArgs): Promise<unknown> {
    const done = await work();
    this.#platter.wrote(path, { from: at, to: at + length });
    const written = Buffer.from(bytes.subarray(offset, offset + length));
    this.steps.push({ step: 'write', path: relative(this.#dir, path), at, bytes: written });
    return done;
  }

  async truncate(path: string, work: Work): Promise<unknown> {
    const done = await work();
    this.steps.push({ step: 'cut', path: relative(this.#dir, path) });
    return done;
  }

  async sync(path: string, work: Work): Promise<unknown> {
    if (this.fails?.test(relative(this.#dir, path))) {
      if (statSync(path).isFile()) this.#platter.lost(path);
      throw Object.assign(new Error('EIO: made by the test'), { code: 'EIO' });
    }
    const done = await work();
    this.#platter.synced(path);
    this.steps.push({ step: 'sync', path: relative(this.#dir, path) });
    return done;
  }
}

type WriteArgs = [bytes: Buffer, offset: number, length: number, at: number];
type Hook = (disk: Disk, path: string, work: Work, args: WriteArgs) => Promise<unknown>;
const HOOKS: Record<'write' | 'truncate' | 'datasync' | 'sync', Hook> = {
  write: (disk, path, work, args) => disk.write(path, work, args),
  truncate: (disk, path, work) => disk.truncate(path, work),
  datasync: (disk, path, work) => disk.sync(path, work),
  sync: (disk, path, work) => disk.sync(path, work),
};

const disks = new Set<Disk>();

/** Puts the hooks between this process and its files; answers how they are taken away. */
async function hookUp(): Promise<() => void> {
  const probe = await open('/dev/null', 'r');
  const prototype = Object.getPrototypeOf(probe) as Record<string, (...args: unknown[]) => Promise<unknown>>;
  await probe.close();
  const real = Object.keys(HOOKS).map((name) => [name, prototype[name]!] as const);
  for (const [name, method] of real) {
    prototype[name] = function (this: FileHandle, ...args: unknown[]): Promise<unknown> {
      const path = readlinkSync(`/proc/self/fd/${this.fd}`);
      const work: Work = () => method.apply(this, args);
      const disk = [...disks].find((one) => one.has(path));
      return disk ? HOOKS[name as keyof typeof HOOKS](disk, path, work, args as WriteArgs) : work();
    };
  }
  return () => void Object.assign(prototype, Object.fromEntries(real));
}

let unhook: (() => void) | null = null;

/** Whatever this process does from now on to files in `dir`, which is empty, goes to this disk, until the test ends. */
export async function lossyDisk(t: TestContext, dir: string): Promise<LossyDisk> {
  const disk = new Disk(realpathSync(dir));
  unhook ??= await hookUp();
  disks.add(disk);
  t.after(() => {
    disks.delete(disk);
    if (disks.size > 0) return;
    unhook?.();
    unhook = null;
  });
  return disk;
}
