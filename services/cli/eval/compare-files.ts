/** `quern eval compare`: two stored runs beside one another. */
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { parseOptions } from '../options.ts';
import { compareAndPrint, failedDemands } from './demands.ts';
import { readEvaluation } from './result.ts';

export async function evalCompare(args: string[], io: Io): Promise<number> {
  const options = { json: { type: 'boolean' }, 'fail-on-regression': { type: 'boolean' } } as const;
  const { values, positionals } = parseOptions(args, options);
  const [earlier, later, ...rest] = positionals;
  if (earlier === undefined || later === undefined || rest.length > 0) {
    const got = positionals.length === 1 ? 'one' : String(positionals.length);
    throw new QuernError('INVALID_ARGUMENT', `expected two files, quern eval compare EARLIER LATER; got ${got}`);
  }
  const [before, after] = [await readEvaluation(earlier), await readEvaluation(later)];
  const comparison = compareAndPrint(before, after, values.json ?? false, io);
  const demands = { atLeast: [], noRegression: values['fail-on-regression'] ?? false };
  const missed = failedDemands(demands, undefined, comparison);
  for (const line of missed) io.stderr.write(`quern: ${line}\n`);
  return missed.length === 0 ? 0 : 1;
}
