// What a start does to the end of a file. After an fdatasync that failed Linux takes the pages for clean: a start reads them from
// memory, and no later fdatasync writes them. So bytes of which nothing says that the disk has them are written once more before
// anything is built on them: the same bytes in the same place make the pages dirty again. What a crash tore is cut.
import { join } from 'node:path';
import { QuernError } from '#kit/errors.ts';
import type { SegmentFile, SegmentFiles } from './segment-files.ts';

/** `what` of the file could not be done. For whoever starts the service. */
export function notOnDisk(path: string, what: string, cause: unknown): QuernError {
  const why = (cause as Error | null)?.message ?? String(cause);
  const message =
    `${path}: ${what} (${why}); nothing is taken for stored that the disk may lack, and what is there stays: see to the disk (its ` +
    "room, and its health in the kernel's log), then start again";
  return new QuernError('UNAVAILABLE', message, { reason: 'DISK_FAILED' }, { cause });
}

type End = { files: SegmentFiles; name: string };

async function change({ files, name }: End, what: string, work: (file: SegmentFile) => Promise<void>): Promise<void> {
  try {
    const file = await files.open(name);
    try {
      await work(file);
      await file.datasync();
    } finally {
      await file.close();
    }
    await files.syncFolder(); // the name may be as new as the bytes
  } catch (error) {
    throw notOnDisk(join(files.dir, name), what, error);
  }
}

/** Writes bytes that were read at `at` there again. They and the file's name are on the disk when it returns; throws UNAVAILABLE. */
export async function writeAgain(end: End, at: number, bytes: Buffer): Promise<void> {
  if (bytes.length === 0) return;
  const what = `bytes ${at} to ${at + bytes.length - 1} could not be written to the disk again`;
  await change(end, what, (file) => file.write(bytes, at));
}

/** Cuts what comes behind `length`. On the disk when it returns; throws UNAVAILABLE. */
export function cutEnd(end: End, length: number): Promise<void> {
  return change(end, `the torn bytes from ${length} on could not be cut off`, (file) => file.truncate(length));
}
