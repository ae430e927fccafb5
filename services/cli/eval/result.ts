/** An evaluation as a file: JSON lines, the run first and then a line per hole. No source text unless it was asked for. */
import { readFile } from 'node:fs/promises';
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
  /** Of the prompt, and how many of them the prefix cache had. Runs from before they were told have none. */
  prompt_tokens: z.number().nullish(),
  cached_tokens: z.number().nullish(),
  /** stop, length or another end; "" without an answer. */
  finish: z.string(),
  wanted: z.string().optional(),
  got: z.string().optional(),
});

const run = z.object({
  format: z.literal(FORMAT),
  /** The run was not finished: rows are missing, and those that are there came in any order. */
  partial: z.literal(true).optional(),
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
    /** What its prompts are best given, 0 = as many as fit. */
    infill_prompt_tokens: z.number().default(0),
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
    /** Tokens of a prompt at most; 0 = as the model is best given. */
    prompt_tokens: z.number().default(0),
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

export const fourDigits = (value: number): number => Math.round(value * 10_000) / 10_000;

export const lineOf = (one: Run | Row): string => `${JSON.stringify(one)}\n`;
export const linesOf = ({ run: head, rows }: Evaluation): string => [head, ...rows].map(lineOf).join('');

/** INVALID_ARGUMENT where the file cannot be read or is something else. */
export async function readEvaluation(file: string): Promise<Evaluation> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new QuernError('INVALID_ARGUMENT', `${file} cannot be read (${error.code}); expected what --out has written`);
  });
  const [first = '', ...others] = text.split('\n');
  if (text.trim() === '') throw new QuernError('INVALID_ARGUMENT', `${file} is empty; expected what --out has written`);
  const head = checked(run, first, `${file}:1`);
  if (head.partial) others.pop(); // "", or what of a row was written when the machine stopped
  const rows = others.flatMap((line, at) => (line.trim() === '' ? [] : [checked(row, line, `${file}:${at + 2}`)]));
  return { run: head, rows };
}

function checked<T>(schema: z.ZodType<T>, line: string, where: string): T {
  const found = schema.safeParse(jsonOf(line));
  if (found.success) return found.data;
  const { path = [], message = '' } = found.error.issues[0] ?? {};
  const what = `${where}: ${path.join('.')}: ${message}`;
  throw new QuernError('INVALID_ARGUMENT', `${what}; expected a file that "quern eval infill --out" wrote`);
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
