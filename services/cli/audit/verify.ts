/** `quern audit verify` and `quern audit head`: is the log what was signed, and what is signed now. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { VerifyResponse } from '#gen/quern/audit/v1/audit.ts';
import { type NoteVerifier, parseVerifierKey, signerOf, verifierKey } from '#kit/audit/checkpoint.ts';
import { sizeOf } from '#kit/audit/checkpoint-file.ts';
import { counted } from '#kit/audit/counted.ts';
import { SIGNING_KEY_FILE } from '#kit/audit/key-folder.ts';
import { originOf, verifyLedgerFolder } from '#kit/audit/ledger-folder.ts';
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { parseOptions } from '../options.ts';
import { oneLine } from '../terminal-text.ts';
import { AUDIT_OPTIONS, connectAudit } from './audit-client.ts';
import { readNote, verifyExport } from './export-file.ts';
import { jsonLine } from './request-rows.ts';
import { noPositionals } from './words.ts';

/** Stands for the name of a log in which nothing is signed. */
const UNSIGNED = 'unsigned';

type Result = {
  verdict: string;
  index: number | null;
  message: string;
  records: number;
  covered: number;
  note: string;
};

/** "altered at record 5: …" */
function resultText({ verdict, index, message, note }: Result): string {
  const place = index === null ? '' : ` at record ${index}`;
  return `${verdict}${place}: ${oneLine(message)}\n${note}`;
}

export async function verifyRecords(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseOptions(args, {
    ...AUDIT_OPTIONS,
    'trusted-checkpoint': { type: 'string' },
    key: { type: 'string' },
    json: { type: 'boolean' },
  });
  const [file, ...rest] = positionals;
  if (rest.length > 0) noPositionals('verify PATH', rest);
  const trustedFile = values['trusted-checkpoint'];
  const trusted = trustedFile === undefined ? undefined : await readNote(trustedFile);
  if (file === undefined && values.key !== undefined) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      '--key: is for an export or a folder; the service checks with its own key',
    );
  }
  const key = values.key;
  const result =
    file === undefined
      ? await online(values.address, trusted, io)
      : (await isFolder(file))
        ? await ofFolder(file, { key, trusted }, io)
        : await offline(file, key, trusted);
  io.stdout.write(values.json ? jsonLine(result) : resultText(result));
  return result.verdict === 'ok' ? 0 : 1;
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/** A log as it lies on this machine's disk. */
async function ofFolder(
  dir: string,
  { key, trusted }: { key: string | undefined; trusted: string | undefined },
  io: Io,
): Promise<Result> {
  const verifier = key === undefined ? await ownKey(dir, io) : parseVerifierKey(key);
  const { verdict, index, message, records, covered } = await verifyLedgerFolder(dir, { verifier, trusted });
  const advice =
    trusted === undefined && verdict === 'ok'
      ? `Checked with ${oneLine(verifierKey(verifier))} and the checkpoints in the folder; whoever holds that key can make others: ` +
        'a --trusted-checkpoint that was kept elsewhere counts more.\n'
      : '';
  return { verdict, index, message, records, covered, note: advice };
}

/** By the signing key of this machine's log. */
async function ownKey(dir: string, io: Io): Promise<NoteVerifier> {
  const path = join(io.config.auditSigningKeyDir, SIGNING_KEY_FILE);
  const pem = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const message =
      `--key: expected the public key line of the log, as "quern audit head" and the manifest of an export have it, or its ` +
      `signing key on this machine; ${path} cannot be read (${cause.code})`;
    throw new QuernError('INVALID_ARGUMENT', message, {}, { cause });
  });
  return signerOf((await originOf(dir)) ?? UNSIGNED, pem);
}

async function offline(file: string, key: string | undefined, trusted: string | undefined): Promise<Result> {
  const { verdict, index, message, records, covered, keys, ownKeys } = await verifyExport(file, { key, trusted });
  const advice =
    ownKeys && trusted === undefined && verdict === 'ok'
      ? `Checked with the key of the export itself, ${oneLine(keys.join(', '))}: compare it with what you know of the log, or give ` +
        '--key or --trusted-checkpoint.\n'
      : '';
  return { verdict, index, message, records, covered, note: advice };
}

async function online(address: string | undefined, trusted: string | undefined, io: Io): Promise<Result> {
  const audit = connectAudit(address, io);
  let last: VerifyResponse | null = null;
  try {
    for await (const report of audit.verify({ trustedCheckpoint: trusted ?? '' })) {
      last = report;
      if (report.verdict === '' && io.stderr.isTTY)
        io.stderr.write(`\r${report.records} of ${counted(report.total, 'record')}`);
    }
  } finally {
    audit.close();
    if (io.stderr.isTTY) io.stderr.write('\r\u001b[K');
  }
  if (!last || last.verdict === '') {
    throw new QuernError('UNAVAILABLE', 'the verification ended without a verdict; try again');
  }
  const { verdict, index, message, records, covered } = last;
  const place = index === undefined ? null : Number(index);
  return { verdict, index: place, message, records: Number(records), covered: Number(covered), note: '' };
}

export async function showHead(args: string[], io: Io): Promise<number> {
  const options = { ...AUDIT_OPTIONS, note: { type: 'boolean' }, json: { type: 'boolean' } } as const;
  const { values, positionals } = parseOptions(args, options);
  noPositionals('head', positionals);
  const audit = connectAudit(values.address, io);
  try {
    const head = await audit.head();
    if (values.json) io.stdout.write(jsonLine(head));
    else if (values.note) {
      if (head.checkpoint === '')
        throw new QuernError('FAILED_PRECONDITION', 'nothing is signed yet; try again in 10 s');
      io.stdout.write(head.checkpoint);
    } else io.stdout.write(headText(head));
    return 0;
  } finally {
    audit.close();
  }
}

function headText(head: Awaited<ReturnType<ReturnType<typeof connectAudit>['head']>>): string {
  const { records, firstRecord, checkpoint, checkpointTime, verifierKey, reading, readingProblem, pendingMessages } =
    head;
  const signed = checkpoint === '' ? 'none yet' : `${counted(sizeOf(checkpoint), 'record')} at ${checkpointTime}`;
  const aged = firstRecord > 0n ? `, the oldest ${firstRecord} of them known by hash only` : '';
  return [
    `records     ${records}${aged}`,
    `checkpoint  ${signed}`,
    `key         ${verifierKey}`,
    `stream      ${reading ? `read, ${counted(pendingMessages, 'message')} to come` : `not read: ${readingProblem}`}`,
    '',
  ].join('\n');
}
