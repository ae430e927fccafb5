/** `quern audit export`: the log as a file. */
import { existsSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import type { ExportManifest, QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { choice, parseOptions } from '../options.ts';
import { AUDIT_OPTIONS, type AuditClient, connectAudit } from './audit-client.ts';
import { manifestPath, manifestText } from './export-file.ts';
import { instant } from './instant.ts';
import { classicRow, csvHeader, csvLine } from './request-rows.ts';
import { collect, noPositionals, required, TENANT_DEFAULT } from './words.ts';

const FORMATS = ['jsonl', 'csv', 'classic'] as const;
/** Rows of one call, and what is held at once. */
const ROWS_MAX = 100_000;

type Range = { since: string; until: string };
type RowQuery = Range & { tenant: string; user: string; withPrompts: boolean };

export async function exportRecords(args: string[], io: Io): Promise<number> {
  const options = {
    ...AUDIT_OPTIONS,
    format: { type: 'string' },
    since: { type: 'string' },
    until: { type: 'string' },
    tenant: { type: 'string' },
    user: { type: 'string' },
    out: { type: 'string' },
  } as const;
  const { values, positionals } = parseOptions(args, options);
  noPositionals('export', positionals);
  const format = choice('format', values.format, FORMATS) ?? 'jsonl';
  const file = required('out', values.out, 'a file to write');
  const now = Date.now();
  const range = { since: instant('since', values.since, now), until: instant('until', values.until, now) };
  if (format === 'jsonl' && (values.tenant !== undefined || values.user !== undefined)) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      '--tenant and --user: the form jsonl has every record of its time, or it could not be verified; they are for csv and classic',
    );
  }
  const taken = [file, manifestPath(file)].find((path) => existsSync(path));
  if (taken !== undefined) throw new QuernError('INVALID_ARGUMENT', `--out: ${taken} exists already; name a new file`);
  const audit = connectAudit(values.address, io);
  try {
    if (format === 'jsonl') return await exportLog(audit, range, file, io);
    const { tenant = TENANT_DEFAULT, user = '' } = values;
    const count = await inPlace(file, (handle) =>
      writeRows(audit, { ...range, tenant, user, withPrompts: format === 'classic' }, format, handle),
    );
    io.stderr.write(`${count} requests in ${file}\n`);
    return 0;
  } finally {
    audit.close();
  }
}

/** The file is there when all of it is. */
async function inPlace<T>(file: string, write: (handle: FileHandle) => Promise<T>): Promise<T> {
  const temporary = `${file}.partial`;
  const handle = await open(temporary, 'w', 0o600).catch((cause: NodeJS.ErrnoException) => {
    throw new QuernError('INVALID_ARGUMENT', `--out: ${temporary} cannot be written (${cause.code})`, {}, { cause });
  });
  try {
    const result = await write(handle);
    await handle.datasync();
    await handle.close();
    await rename(temporary, file);
    return result;
  } catch (error) {
    await handle.close();
    await rm(temporary, { force: true });
    throw error;
  }
}

const NEWLINE = Buffer.from('\n');

async function exportLog(audit: AuditClient, range: Range, file: string, io: Io): Promise<number> {
  const manifest = await inPlace(file, async (handle): Promise<ExportManifest> => {
    let last: ExportManifest | null = null;
    for await (const { part } of audit.export(range)) {
      if (part?.$case === 'manifest') last = part.value;
      else if (part) await handle.write(Buffer.concat(part.value.records.flatMap((bytes) => [bytes, NEWLINE])));
    }
    if (last) return last;
    throw new QuernError('UNAVAILABLE', 'the export ended before its manifest came; try again');
  });
  await inPlace(manifestPath(file), (handle) => handle.writeFile(manifestText(manifest)));
  const { count, first, checkpoints } = manifest;
  io.stderr.write(
    `${count} records from record ${first} on in ${file}, and ${manifestPath(file)} with ${checkpoints.length} signed ` +
      `checkpoints; to verify it anywhere: quern audit verify ${file}\n`,
  );
  return 0;
}

/** Oldest first. A time with more rows than one call gives is halved. */
async function* ascending(audit: AuditClient, query: RowQuery): AsyncGenerator<QueryResponse[], void, undefined> {
  const request = { ...query, requestId: '', traceId: '', limit: ROWS_MAX, exports: true };
  const rows = await collect(audit.query(request));
  if (rows.length < ROWS_MAX) {
    yield rows.reverse();
    return;
  }
  const [from, to] = [Date.parse(query.since) || 0, Date.parse(query.until) || Date.now()];
  const middle = new Date(Math.floor((from + to) / 2)).toISOString();
  if (to - from < 2) throw new QuernError('RESOURCE_EXHAUSTED', `more than ${ROWS_MAX} requests in one millisecond`);
  yield* ascending(audit, { ...query, until: middle });
  yield* ascending(audit, { ...query, since: middle });
}

async function writeRows(
  audit: AuditClient,
  query: RowQuery,
  format: 'csv' | 'classic',
  handle: FileHandle,
): Promise<number> {
  const line = format === 'csv' ? csvLine : classicRow;
  let count = 0;
  if (format === 'csv') await handle.write(csvHeader());
  for await (const rows of ascending(audit, query)) {
    for (let at = 0; at < rows.length; at += 1_000) {
      await handle.write(
        rows
          .slice(at, at + 1_000)
          .map(line)
          .join(''),
      );
    }
    count += rows.length;
  }
  return count;
}
