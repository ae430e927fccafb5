// A disk under real files that forgets as Linux does: an fdatasync that fails takes the pages for clean, so what was written since
// the one before stays readable until the power fails, and is not on the disk unless it is written again. Files only grow, or are cut.
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
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

/** Whatever this process does from now on to files in `dir`, which is empty, goes to this disk, until the test ends. */
export async function lossyDisk(t: TestContext, dir: string): Promise<LossyDisk> {
  const probe = await open(dir, 'r');
  const prototype = Object.getPrototypeOf(probe) as FileHandle;
  await probe.close();
  const platter = new Platter();
  const disk: LossyDisk = { fails: null, steps: [], powerFailure: (to) => platter.copy(dir, to) };
  type Step = (this: FileHandle, ...args: never[]) => Promise<unknown>;
  const wrap = (
    name: 'write' | 'truncate' | 'datasync' | 'sync',
    wrapper: (path: string, work: Work) => Work,
  ): void => {
    const real = prototype[name] as unknown as Step;
    t.mock.method(prototype, name, function (this: FileHandle, ...args: never[]) {
      const path = readlinkSync(`/proc/self/fd/${this.fd}`);
      const work = (): Promise<unknown> => real.apply(this, args);
      return `${path}/`.startsWith(`${dir}/`) ? wrapper(path, work)(...args) : work();
    } as never);
  };
  type Work = (...args: never[]) => Promise<unknown>;
  const short = (path: string): string => relative(dir, path);
  wrap('write', (path, work) => async (bytes: Buffer, offset: number, length: number, at: number) => {
    const done = await work();
    const written = Buffer.from(bytes.subarray(offset, offset + length));
    platter.wrote(path, { from: at, to: at + length });
    disk.steps.push({ step: 'write', path: short(path), at, bytes: written });
    return done;
  });
  wrap('truncate', (path, work) => async () => {
    await work();
    disk.steps.push({ step: 'cut', path: short(path) });
  });
  const sync = (path: string, work: Work): Work => {
    return async () => {
      if (disk.fails?.test(short(path))) {
        if (statSync(path).isFile()) platter.lost(path);
        throw Object.assign(new Error('EIO: made by the test'), { code: 'EIO' });
      }
      await work();
      platter.synced(path);
      disk.steps.push({ step: 'sync', path: short(path) });
    };
  };
  wrap('datasync', sync);
  wrap('sync', sync);
  return disk;
}
