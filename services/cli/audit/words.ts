/** What the verbs of `quern audit` share about their arguments. */
import { QuernError } from '#kit/errors.ts';

/** Everyone's, without a keys file. */
export const TENANT_DEFAULT = 'local';

export function noPositionals(verb: string, positionals: readonly string[]): void {
  if (positionals.length === 0) return;
  throw new QuernError('INVALID_ARGUMENT', `quern audit ${verb} takes options only, got "${positionals.join(' ')}"`);
}

export function required(option: string, value: string | undefined, example: string): string {
  if (value !== undefined && value !== '') return value;
  throw new QuernError('INVALID_ARGUMENT', `--${option}: expected ${example}, got nothing`);
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
