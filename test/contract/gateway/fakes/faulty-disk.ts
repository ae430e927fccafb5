// A disk under the outbox that waits or fails when a test says so; what it was not told of works.
import { openSegmentFiles, type SegmentFiles } from '#kit/audit/segment-files.ts';

export type FaultyDisk = {
  readonly files: SegmentFiles;
  /** Every fdatasync waits from now on. Answers the release. */
  hold(): () => void;
  /** fdatasyncs that wait. */
  readonly waiting: number;
  /** fdatasyncs that were done. */
  readonly synced: number;
  /** Error code of writes and fdatasyncs; null: they work. */
  failWrite: string | null;
  failSync: string | null;
};

function refuse(code: string | null): void {
  if (code !== null) throw Object.assign(new Error(`${code}: made by the test`), { code });
}

export async function faultyDisk(dir: string): Promise<FaultyDisk> {
  const real = await openSegmentFiles(dir);
  let gate: Promise<void> = Promise.resolve();
  const disk = {
    waiting: 0,
    synced: 0,
    failWrite: null as string | null,
    failSync: null as string | null,
    hold(): () => void {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    },
    files: {
      ...real,
      async open(name) {
        const file = await real.open(name);
        return {
          ...file,
          async write(bytes, at) {
            refuse(disk.failWrite);
            await file.write(bytes, at);
          },
          async datasync() {
            disk.waiting += 1;
            await gate;
            disk.waiting -= 1;
            refuse(disk.failSync);
            await file.datasync();
            disk.synced += 1;
          },
        };
      },
    } satisfies SegmentFiles,
  };
  return disk;
}
