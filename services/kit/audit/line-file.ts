// Files of lines that may be larger than memory, or than a string may be: read as they come, or from the end.
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { FILE_LINE_BYTES_MAX } from './limits.ts';

const NEWLINE = 0x0a;
const BLOCK_BYTES = 64 * 1024;

/**
 * The exact bytes between newlines. A last line without one counts, as a cut file has it, unless `ended` asks for whole lines
 * only. What is longer than any line of ours comes in pieces: it is none of them.
 */
export async function* linesOf(
  path: string,
  { ended = false }: { ended?: boolean } = {},
): AsyncGenerator<Buffer, void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path)) {
    const bytes = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer]);
    let at = 0;
    for (let end = bytes.indexOf(NEWLINE, at); end >= 0; end = bytes.indexOf(NEWLINE, at)) {
      yield bytes.subarray(at, end);
      at = end + 1;
    }
    rest = bytes.subarray(at);
    if (rest.length <= FILE_LINE_BYTES_MAX) continue;
    yield rest;
    rest = Buffer.alloc(0);
  }
  if (rest.length > 0 && !ended) yield rest;
}

/** `line` null: there is no whole line. `end`: behind its newline; what follows in the file is torn. */
export type LastLine = { line: Buffer | null; end: number; size: number };

/** The last whole line, read from the end of the file; of a file that is not there: none. */
export async function lastLineOf(path: string): Promise<LastLine> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (!file) return { line: null, end: 0, size: 0 };
  try {
    const { size } = await file.stat();
    let tail: Buffer = Buffer.alloc(0);
    for (let from = size; from > 0 && tail.length <= 2 * FILE_LINE_BYTES_MAX; ) {
      const length = Math.min(BLOCK_BYTES, from);
      from -= length;
      const block = Buffer.allocUnsafe(length);
      const { bytesRead } = await file.read(block, 0, length, from);
      tail = Buffer.concat([block.subarray(0, bytesRead), tail]);
      const last = tail.lastIndexOf(NEWLINE);
      const before = last <= 0 ? -1 : tail.lastIndexOf(NEWLINE, last - 1);
      if (last < 0 || (before < 0 && from > 0)) continue;
      return { line: tail.subarray(before + 1, last), end: from + last + 1, size };
    }
    return { line: null, end: 0, size };
  } finally {
    await file.close();
  }
}
