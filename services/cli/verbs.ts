/** Commands of several verbs, as `quern eval infill`. */
import { QuernError } from '#kit/errors.ts';
import type { Io } from './command.ts';
import { didYouMean } from './did-you-mean.ts';

export type Verb = (args: string[], io: Io) => Promise<number>;

/** Runs the verb that the first of `args` names with the others. INVALID_ARGUMENT where `command` has no such verb. */
export function runVerb(
  command: string,
  verbs: Readonly<Record<string, Verb>>,
  [name = '', ...args]: readonly string[],
  io: Io,
): Promise<number> {
  const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (verb) return verb(args, io);
  const names = Object.keys(verbs);
  const got = name === '' ? 'nothing' : `"${name}"`;
  throw new QuernError(
    'INVALID_ARGUMENT',
    `quern ${command}: expected one of ${names.join(', ')}, got ${got}${didYouMean(name, names)}; see quern ${command} --help`,
  );
}
