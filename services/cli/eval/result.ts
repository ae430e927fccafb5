/** A finished evaluation as a file: JSON lines, the run first and then a line per hole. No source text unless it was asked for. */
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { QuernError } from '#kit/errors.ts';
import { KINDS } from './holes.ts';

const FORMAT = 'quern-eval-infill/1';

const row = z.object({
  /** Of file, place and kind: pairs the rows of two runs. */
  id: z.string(),
  language: z.string(),
  path: z.string(),
  line: z.number(),
  /** null: there was an answer. Otherwise the gRPC code, and all figures are null. */
  failure: z.string().nullable(),
  exact: z.boolean().nullable(),
  edit_similarity: z.number().nullable(),
  parses: z.boolean().nullable(),
  parses_empty: z.boolean().nullable(),
  identifier_exact: z.boolean().nullable(),
  identifier_precision: z.number().nullable(),
  identifier_recall: z.number().nullable(),
  identifier_f1: z.number().nullable(),
  latency_ms: z.number().nullable(),
  tokens: z.number().nullable(),
  /** stop, length or another end; "" without an answer. */
  finish: z.string(),
  wanted: z.string().optional(),
  got: z.string().optional(),
});

const run = z.object({
  format: z.literal(FORMAT),
  quern: z.string(),
  commit: z.string(),
  at: z.string(),
  model: z.object({
    name: z.string(),
    hash: z.string(),
    vocabulary: z.string(),
    fim_family: z.string(),
    prompt_order: z.string(),
    dtype: z.string(),
    backend: z.string(),
    context_length: z.number(),
  }),
  settings: z.object({
    kind: z.enum(KINDS),
    seed: z.number(),
    holes_wanted: z.number(),
    max_tokens: z.number(),
    temperature: z.number(),
    concurrency: z.number(),
    lines_before: z.number(),
    lines_after: z.number(),
    sources: z.string(),
    files: z.number(),
    /** Of the files' hashes: equal for the same files. */
    sources_hash: z.string(),
  }),
});

export type Row = z.output<typeof row>;
export type Run = z.output<typeof run>;
export type Evaluation = { run: Run; rows: Row[] };

export const newRun = (rest: Omit<Run, 'format'>): Run => ({ format: FORMAT, ...rest });

const unwritable = (file: string) => (error: NodeJS.ErrnoException) => {
  throw new QuernError('INVALID_ARGUMENT', `--out: ${file} cannot be written (${error.code})`);
};

/** Before hours of work: INVALID_ARGUMENT where `file` cannot be written. What is in it stays. */
export async function checkWritable(file: string): Promise<void> {
  const handle = await open(file, 'a').catch(unwritable(file));
  const { size } = await handle.stat();
  await handle.close();
  if (size === 0) await rm(file); // made by the look itself: a run that does not come to its end leaves nothing
}

export async function writeEvaluation(file: string, { run: head, rows }: Evaluation): Promise<void> {
  const lines = [head, ...rows].map((one) => JSON.stringify(one));
  await writeFile(file, `${lines.join('\n')}\n`).catch(unwritable(file));
}

/** INVALID_ARGUMENT where the file cannot be read or is something else. */
export async function readEvaluation(file: string): Promise<Evaluation> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new QuernError('INVALID_ARGUMENT', `${file} cannot be read (${error.code}); expected what --out has written`);
  });
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const parsed = lines.map((line, at) => {
    const found = (at === 0 ? run : row).safeParse(jsonOf(line));
    if (found.success) return found.data;
    const { path = [], message = '' } = found.error.issues[0] ?? {};
    const where = `${file}:${at + 1}: ${path.join('.')}`;
    throw new QuernError(
      'INVALID_ARGUMENT',
      `${where}: ${message}; expected a file that "quern eval infill --out" wrote`,
    );
  });
  if (parsed.length === 0)
    throw new QuernError('INVALID_ARGUMENT', `${file} is empty; expected what --out has written`);
  return { run: parsed[0] as Run, rows: parsed.slice(1) as Row[] };
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
