/** Rows of requests into a file, oldest first. The service gives them newest first; with their prompts they fit no memory. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { QuernError } from '#kit/errors.ts';
import type { AuditClient } from './audit-client.ts';

/** Rows of one call: what the service gives at most. */
const ROWS_MAX = 100_000;
/** Text that is held before it is written. */
const BLOCK_BYTES = 1024 * 1024;

export type RowQuery = { tenant: string; user: string; since: string; until: string; withPrompts: boolean };

type RowSource = Pick<AuditClient, 'query'>;

/** Newest first, as many calls as it takes: each goes on in the millisecond in which the one before it ended. */
async function* newestFirst(
  audit: RowSource,
  query: RowQuery,
  rowsMax: number,
): AsyncGenerator<QueryResponse, void, undefined> {
  let until = query.until;
  let edge = { accepted: '', seen: new Set<bigint>() };
  for (;;) {
    let [count, fresh] = [0, 0];
    const known = edge;
    for await (const row of audit.query({
      ...query,
      until,
      requestId: '',
      traceId: '',
      limit: rowsMax,
      exports: true,
      withAnswers: false,
      kinds: [],
    })) {
      count += 1;
      if (row.accepted === known.accepted && known.seen.has(row.acceptedIndex)) continue;
      fresh += 1;
      if (row.accepted !== edge.accepted) edge = { accepted: row.accepted, seen: new Set() };
      edge.seen.add(row.acceptedIndex);
      yield row;
    }
    if (count < rowsMax) return;
    if (fresh === 0) throw new QuernError('RESOURCE_EXHAUSTED', `more than ${rowsMax} requests in one millisecond`);
    until = new Date(Date.parse(edge.accepted) + 1).toISOString();
  }
}

/** Text that is written front to back and read back to front, in blocks, on a file that has no name: it goes with the process. */
class Reversal {
  readonly #file: FileHandle;
  readonly #blockBytes: number;
  readonly #lengths: number[] = [];
  #bytes = 0;
  #lines: string[] = [];
  #pending = 0;

  private constructor(file: FileHandle, blockBytes: number) {
    this.#file = file;
    this.#blockBytes = blockBytes;
  }

  /** `path`: where there is room; nothing stays there. */
  static async open(path: string, blockBytes: number): Promise<Reversal> {
    const file = await open(path, 'wx+', 0o600).catch((cause: NodeJS.ErrnoException) => {
      throw new QuernError('INVALID_ARGUMENT', `--out: ${path} cannot be written (${cause.code})`, {}, { cause });
    });
    await rm(path, { force: true });
    return new Reversal(file, blockBytes);
  }

  async push(line: string): Promise<void> {
    this.#lines.push(line);
    this.#pending += line.length;
    if (this.#pending >= this.#blockBytes) await this.#flush();
  }

  async #flush(): Promise<void> {
    const block = Buffer.from(this.#lines.reverse().join(''));
    [this.#lines, this.#pending] = [[], 0];
    await this.#file.appendFile(block);
    this.#lengths.push(block.length);
    this.#bytes += block.length;
  }

  /** The lines, last one first. */
  async *blocks(): AsyncGenerator<Buffer, void, undefined> {
    await this.#flush();
    let at = this.#bytes;
    for (const length of this.#lengths.reverse()) {
      at -= length;
      const block = Buffer.allocUnsafe(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await this.#file.read(block, done, length - done, at + done);
        if (bytesRead === 0) throw new QuernError('DATA_LOSS', `the temporary file of the export ends at ${at + done}`);
        done += bytesRead;
      }
      yield block;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

export type RowsOptions = {
  query: RowQuery;
  /** With its end; the file's head is the caller's. */
  line: (row: QueryResponse) => string;
  handle: FileHandle;
  /** The file's path, beside which there is room for as much again. */
  file: string;
  /** For tests: smaller bounds. */
  rowsMax?: number;
  blockBytes?: number;
};

/** Writes every row that the query has; answers their number. Holds one block of them. */
export async function writeRows(audit: RowSource, options: RowsOptions): Promise<number> {
  const { query, line, handle, file, rowsMax = ROWS_MAX, blockBytes = BLOCK_BYTES } = options;
  const reversal = await Reversal.open(`${file}.newest-first`, blockBytes);
  try {
    let count = 0;
    for await (const row of newestFirst(audit, query, rowsMax)) {
      await reversal.push(line(row));
      count += 1;
    }
    for await (const block of reversal.blocks()) await handle.appendFile(block);
    return count;
  } finally {
    await reversal.close();
  }
}
