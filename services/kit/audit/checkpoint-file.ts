// Files of checkpoints: one line of JSON each, time and signed note, oldest first. They grow for ever, so they are read as they
// come, and the newest from the end.
import { QuernError } from '#kit/errors.ts';
import { lastLineOf, linesOf } from './line-file.ts';

export type KeptCheckpoint = { ts: string; note: string };

/** Null: it is no checkpoint. */
export function checkpointIn(line: Buffer): KeptCheckpoint | null {
  try {
    const { ts, note } = JSON.parse(line.toString('utf8')) as Partial<KeptCheckpoint>;
    return typeof ts === 'string' && typeof note === 'string' ? { ts, note } : null;
  } catch {
    return null;
  }
}

/** Records of the tree that a note speaks of: its second line, signed or not. */
export const sizeOf = (note: string): number => Number(note.split('\n', 2)[1]);

export function damagedCheckpoints(path: string, which: string): QuernError {
  const message = `${path}: ${which} is no checkpoint; the file has been changed`;
  return new QuernError('DATA_LOSS', message, { reason: 'AUDIT_CHECKPOINTS_DAMAGED' });
}

/** A last line that a crash tore is left out; no file: none. Throws DATA_LOSS at a line that is no checkpoint. */
export async function* readCheckpoints(path: string): AsyncGenerator<KeptCheckpoint, void, undefined> {
  let number = 0;
  try {
    for await (const line of linesOf(path, { ended: true })) {
      number += 1;
      const kept = checkpointIn(line);
      if (!kept) throw damagedCheckpoints(path, `line ${number}`);
      yield kept;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** The last one, without reading the others. Throws DATA_LOSS when the last line is no checkpoint. */
export async function newestCheckpoint(path: string): Promise<KeptCheckpoint | null> {
  const { line } = await lastLineOf(path);
  if (line === null) return null;
  const kept = checkpointIn(line);
  if (!kept) throw damagedCheckpoints(path, 'the last line');
  return kept;
}
