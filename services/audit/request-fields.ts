// Fields that several calls have, checked.
import { checkpointProblem } from '#kit/audit/checkpoint.ts';
import { QuernError } from '#kit/errors.ts';
import { CHECKPOINT_NOTE_BYTES_MAX } from './limits.ts';

export function invalidField(field: string, description: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

/** As records have it, so that text compares like time; undefined for "". */
export function instantField(field: string, text: string): string | undefined {
  if (text === '') return undefined;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) {
    throw invalidField(field, `expected an RFC 3339 time such as 2026-01-31T12:00:00Z, got "${text}"`);
  }
  return new Date(ms).toISOString();
}

export function tenantField(tenant: string): string {
  if (tenant !== '') return tenant;
  throw invalidField('tenant', 'expected the name of a tenant, got nothing');
}

/** Undefined for "". Whose signature it bears is for the verification to say. */
export function noteField(field: string, note: string): string | undefined {
  if (note === '') return undefined;
  const bytes = Buffer.byteLength(note);
  if (bytes > CHECKPOINT_NOTE_BYTES_MAX)
    throw invalidField(field, `expected a signed note of at most ${CHECKPOINT_NOTE_BYTES_MAX} bytes, got ${bytes}`);
  const problem = checkpointProblem(note);
  if (problem !== null) throw invalidField(field, `expected a signed checkpoint, got text that is none (${problem})`);
  return note;
}
