/**
 * The file of --out while a run goes on: each row is in it as soon as it has come, so that whatever ends the run loses none, and the
 * same command goes on from there.
 */
import { appendFileSync, renameSync, writeFileSync } from 'node:fs';
import { access, constants, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { QuernError } from '#kit/errors.ts';
import { type Evaluation, lineOf, linesOf, type Row, type Run, readEvaluation } from './result.ts';

export type Target = {
  /** As it was given, and where that leads to. */
  name: string;
  file: string;
  /** What an earlier run left unfinished there. */
  begun: Evaluation | null;
  /** False: a device or a pipe, which gets everything at the end. */
  isFile: boolean;
};

function unwritable(file: string, error: unknown): QuernError {
  return new QuernError(
    'INVALID_ARGUMENT',
    `--out: ${file} cannot be written (${(error as NodeJS.ErrnoException).code})`,
  );
}

/** Before hours of work. INVALID_ARGUMENT where the file cannot be written, or holds what is not ours to overwrite. Changes nothing. */
export async function targetFor(given: string, force: boolean): Promise<Target> {
  const file = await realpath(given).catch(() => resolve(given));
  const info = await stat(file).catch(() => null);
  const isFile = info?.isFile() ?? true;
  try {
    if (info?.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    if (info) await access(file, constants.W_OK);
    if (isFile) await access(dirname(file), constants.W_OK);
  } catch (error) {
    throw unwritable(given, error);
  }
  const target = { name: given, file, isFile, begun: null };
  if (!info || !isFile || info.size === 0 || force) return target;
  const found = await readEvaluation(file).catch(() => null);
  if (found?.run.partial) return { ...target, begun: found };
  const what = found ? `holds a run of ${found.run.model.name}, ${found.run.at}` : 'is there already';
  throw new QuernError('INVALID_ARGUMENT', `--out: ${given} ${what}; name another file, or overwrite it with --force`);
}

/** The answered rows of what was begun. INVALID_ARGUMENT where that was another run than `run` with `ids`. */
export function rowsOfBefore({ name, begun }: Target, run: Run, ids: ReadonlySet<string>, withText: boolean): Row[] {
  if (begun === null) return [];
  const changed = begun.run.quern === run.quern ? [] : ['quern'];
  changed.push(...differing(begun.run.model, run.model), ...differing(begun.run.settings, run.settings));
  if (begun.rows.some(({ wanted }) => (wanted !== undefined) !== withText)) changed.push('--with-text');
  if (changed.length === 0 && begun.rows.some(({ id }) => !ids.has(id))) changed.push('holes');
  if (changed.length === 0) return begun.rows.filter(({ failure }) => failure === null);
  const hint = 'name another file, or begin anew with --force';
  throw new QuernError(
    'INVALID_ARGUMENT',
    `--out: ${name} holds a part of another run (other ${changed.join(', ')}); ${hint}`,
  );
}

/** Names of what is not the same. */
function differing(before: Readonly<Record<string, unknown>>, now: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(now).filter((name) => !isDeepStrictEqual(before[name], now[name]));
}

export type Store = {
  /** At once, in one piece: a second Ctrl-C ends the process wherever it is. */
  add(row: Row): void;
  /** All rows, in their order, in place of what add() wrote. */
  finish(evaluation: Evaluation): void;
};

/** Nothing is written before the first row. `kept`: rows that count already. */
export function openStore({ name, file, isFile }: Target, run: Run, kept: readonly Row[]): Store {
  const guarded = (write: () => void): void => {
    try {
      write();
    } catch (error) {
      throw unwritable(name, error);
    }
  };
  const replace = (evaluation: Evaluation): void => {
    const beside = isFile ? `${file}.tmp` : file;
    writeFileSync(beside, linesOf(evaluation));
    if (isFile) renameSync(beside, file);
  };
  let isBegun = false;
  return {
    add(row) {
      if (!isFile) return;
      guarded(() => {
        if (isBegun) appendFileSync(file, lineOf(row));
        else replace({ run: { ...run, partial: true }, rows: [...kept, row] });
      });
      isBegun = true;
    },
    finish: (evaluation) => guarded(() => replace(evaluation)),
  };
}
