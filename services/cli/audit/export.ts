/** `quern audit export`: the log as a file. */
import { existsSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import type { ExportManifest } from '#gen/quern/audit/v1/audit.ts';
import { counted } from '#kit/audit/counted.ts';
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { choice, parseOptions } from '../options.ts';
import { AUDIT_OPTIONS, type AuditClient, connectAudit } from './audit-client.ts';
import { manifestPath, manifestText } from './export-file.ts';
import { writeRows } from './export-rows.ts';
import { instant } from './instant.ts';
import { classicRow, csvHeader, csvLine } from './request-rows.ts';
import { noPositionals, required, TENANT_DEFAULT } from './words.ts';

const FORMATS = ['jsonl', 'csv', 'classic'] as const;

type Range = { since: string; until: string };

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
    const query = { ...range, tenant, user, withPrompts: format === 'classic' };
    const line = format === 'csv' ? csvLine : classicRow;
    const count = await inPlace(file, async (handle) => {
      if (format === 'csv') await handle.appendFile(csvHeader());
      return writeRows(audit, { query, line, handle, file });
    });
    io.stderr.write(`${counted(count, 'request')} in ${file}\n`);
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
    `${counted(count, 'record')} from record ${first} on in ${file}, and ${manifestPath(file)} with ` +
      `${counted(checkpoints.length, 'signed checkpoint')}; to verify it anywhere: quern audit verify ${file}\n`,
  );
  return 0;
}
