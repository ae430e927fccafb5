// Loaded before a service by `--import`: a disk that fails. While the file that BROKEN_DISK names is there, an fdatasync (EIO in
// its first line) or a write (ENOSPC) of a file whose path holds its second line fails: once in a process, in so many processes, says
// the third. After it the disk works, as Linux tells a failed fdatasync once: who goes on writes on top of what was lost.
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

let hasFailed = false;

function refused(fd: number, wanted: 'EIO' | 'ENOSPC'): NodeJS.ErrnoException | null {
  if (hasFailed) return null;
  let order: string;
  try {
    order = readFileSync(process.env.BROKEN_DISK ?? '', 'utf8');
  } catch {
    return null; // the disk works
  }
  const [code = '', part = '', times = '0'] = order.split('\n');
  if (code !== wanted || Number(times) <= 0 || !readlinkSync(`/proc/self/fd/${fd}`).includes(part)) return null;
  hasFailed = true;
  writeFileSync(process.env.BROKEN_DISK ?? '', `${code}\n${part}\n${Number(times) - 1}`);
  return Object.assign(new Error(`${code}: made by the test`), { code });
}

const probe = await open('/dev/null', 'r');
const prototype = Object.getPrototypeOf(probe) as Pick<FileHandle, 'write' | 'datasync'>;
await probe.close();

const { write, datasync } = prototype;
prototype.datasync = async function (this: FileHandle): Promise<void> {
  const error = refused(this.fd, 'EIO');
  if (error) throw error;
  return datasync.call(this);
};
prototype.write = async function (this: FileHandle, ...args: Parameters<FileHandle['write']>) {
  const error = refused(this.fd, 'ENOSPC');
  if (!error) return write.apply(this, args);
  // A full disk takes a part and then nothing.
  const [bytes, offset, length, at] = args as unknown as [Buffer, number, number, number];
  await (write as (...all: unknown[]) => Promise<unknown>).call(this, bytes, offset, Math.floor(length / 2), at);
  throw error;
} as typeof write;
