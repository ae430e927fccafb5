/**
 * An export on disk: FILE has one stored record per line, byte for byte; FILE.manifest.json says where they stand in the log and
 * holds the checkpoints and public keys by which anybody can verify them offline.
 */
import { readFile, stat } from 'node:fs/promises';
import type { ExportManifest } from '#gen/quern/audit/v1/audit.ts';
import { checkpointProblem, type NoteVerifier, parseVerifierKey } from '#kit/audit/checkpoint.ts';
import { checkpointIn } from '#kit/audit/checkpoint-file.ts';
import { lastLineOf, linesOf } from '#kit/audit/line-file.ts';
import { type ChainHead, type Verification, verifyLog } from '#kit/audit/verify.ts';
import { QuernError } from '#kit/errors.ts';
import { shortText } from '#kit/text-cut.ts';
import { oneLine } from '../terminal-text.ts';

const MANIFEST_VERSION = 1;
const MANIFEST_BYTES_MAX = 64 * 1024 * 1024;
/** What a file with one signed note may have. */
const NOTE_BYTES_MAX = 64 * 1024;
/** Of what a file holds instead. */
const NOTE_SHOWN_CHARS = 60;

export const manifestPath = (file: string): string => `${file}.manifest.json`;

type ManifestJson = {
  quern_audit_export: number;
  origin: string;
  verifier_keys: string[];
  first: number;
  count: number;
  tree_size: number;
  before: string[];
  after: string[];
  checkpoints: string[];
  producers: Record<string, ChainHead>;
  exported: string;
};

const base64 = (hashes: readonly Uint8Array[]): string[] => hashes.map((hash) => Buffer.from(hash).toString('base64'));

export function manifestText(manifest: ExportManifest): string {
  const { origin, verifierKeys, first, count, treeSize, before, after, checkpoints, producers, exported } = manifest;
  const json: ManifestJson = {
    quern_audit_export: MANIFEST_VERSION,
    origin,
    verifier_keys: verifierKeys,
    first: Number(first),
    count: Number(count),
    tree_size: Number(treeSize),
    before: base64(before),
    after: base64(after),
    checkpoints,
    producers: Object.fromEntries(
      producers.map(({ producer, seq, sha256 }) => [producer, { seq: Number(seq), sha256 }]),
    ),
    exported,
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

function invalid(message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'AUDIT_EXPORT_INVALID' });
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every(isText);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function isHeads(value: unknown): value is Record<string, ChainHead> {
  if (typeof value !== 'object' || value === null) return false;
  return Object.values(value).every((head: Partial<ChainHead> | null) => isCount(head?.seq) && isText(head?.sha256));
}

/** Null: it is no manifest. */
function asManifest(value: unknown): ManifestJson | null {
  const given = (value ?? {}) as Partial<ManifestJson>;
  const { origin, verifier_keys, first, count, tree_size, before, after, checkpoints, producers } = given;
  const whole =
    given.quern_audit_export === MANIFEST_VERSION &&
    isText(origin) &&
    [verifier_keys, before, after, checkpoints].every(isTexts) &&
    [first, count, tree_size].every(isCount) &&
    isHeads(producers);
  return whole ? (given as ManifestJson) : null;
}

async function readManifest(file: string): Promise<ManifestJson> {
  const path = manifestPath(file);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw invalid(
      `${path} cannot be read (${code}); only an export in the form jsonl can be verified, with its manifest beside it`,
    );
  }
  let parsed: unknown = null;
  try {
    if (text.length <= MANIFEST_BYTES_MAX) parsed = JSON.parse(text);
  } catch {
    // told below
  }
  const manifest = asManifest(parsed);
  if (manifest === null)
    throw invalid(`${path}: expected the manifest of a Quern audit export, version ${MANIFEST_VERSION}`);
  return manifest;
}

export type ExportVerification = Verification & {
  first: number;
  /**
   * The keys that were offered, and whether they came from the export itself: then they prove nothing about who signed, but
   * for those that signed the trusted note, which alone count beside one.
   */
  keys: string[];
  ownKeys: boolean;
};

/** `key`: a verifier key line from elsewhere. `trusted`: a signed note from elsewhere. Throws INVALID_ARGUMENT for no export. */
export async function verifyExport(
  file: string,
  { key, trusted }: { key: string | undefined; trusted: string | undefined },
): Promise<ExportVerification> {
  const manifest = await readManifest(file);
  const keys = key === undefined ? manifest.verifier_keys : [key];
  const verifiers: NoteVerifier[] = keys.map(parseVerifierKey);
  const { origin, first, count, tree_size: treeSize, before, after, checkpoints, producers } = manifest;
  const hashes = (texts: readonly string[]): Buffer[] => texts.map((text) => Buffer.from(text, 'base64'));
  const verification = await verifyLog({
    records: linesOf(file),
    part: { first, end: first + count, treeSize, before: hashes(before), after: hashes(after) },
    heads: new Map(Object.entries(producers)),
    origin,
    verifiers,
    checkpoints,
    trusted,
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') throw invalid(`${file} does not exist`);
    throw error;
  });
  return { ...verification, first, keys, ownKeys: key === undefined };
}

/** What stands in a file that should hold a note; null: it cannot be one, whatever it is. */
async function noteIn(file: string): Promise<string | null> {
  const { line } = await lastLineOf(file);
  const kept = line && checkpointIn(line);
  if (kept) return kept.note;
  if ((await stat(file)).size > NOTE_BYTES_MAX) return null;
  const text = await readFile(file, 'utf8');
  return checkpointIn(Buffer.from(text))?.note ?? text; // a line without its end
}

/** "is empty", "begins with "{"origin":…"". */
function foundText(text: string): string {
  if (text.trim() === '') return 'is empty';
  return `begins with "${oneLine(shortText(text.trimStart().split('\n', 1)[0] ?? '', NOTE_SHOWN_CHARS))}"`;
}

/**
 * A signed note from a file: the note itself, or a witness's lines of JSON, of which the last whole one counts. Throws
 * INVALID_ARGUMENT for what is no note; whether it is signed by a key that counts is for the verification to say.
 */
export async function readNote(file: string): Promise<string> {
  const expected = '--trusted-checkpoint: expected a file with a signed checkpoint';
  let note: string | null;
  try {
    note = await noteIn(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw invalid(`${expected}, got ${file}, which cannot be read (${code})`);
  }
  const what = `${expected}, as "quern audit head --note" prints it, or a witness file`;
  if (note === null) throw invalid(`${what}; the last line of ${file} holds no signed checkpoint`);
  const problem = checkpointProblem(note);
  if (problem !== null) throw invalid(`${what}; ${file} ${foundText(note)} and is none (${problem})`);
  return note;
}
