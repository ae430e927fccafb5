/** `quern eval compare`: two stored runs beside one another. */
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { parseOptions } from '../options.ts';
import { type Comparison, checkComparable, compareRuns } from './comparison.ts';
import { failedDemands } from './demands.ts';
import { answeredOf, figuresOf } from './figures.ts';
import { evaluationAsJson, formatComparison } from './print.ts';
import { readEvaluation } from './result.ts';

export async function evalCompare(args: string[], io: Io): Promise<number> {
  const options = { json: { type: 'boolean' }, 'fail-on-regression': { type: 'boolean' } } as const;
  const { values, positionals } = parseOptions(args, options);
  const [earlier, later, ...rest] = positionals;
  if (earlier === undefined || later === undefined || rest.length > 0) {
    const got = positionals.length === 1 ? 'one' : String(positionals.length);
    throw new QuernError('INVALID_ARGUMENT', `expected two files, quern eval compare EARLIER LATER; got ${got}`);
  }
  const noRegression = values['fail-on-regression'] ?? false;
  const [before, after] = [await readEvaluation(earlier), await readEvaluation(later)];
  const { settings } = after.run;
  checkComparable(before, { settings, ids: answeredOf(after.rows).map(({ id }) => id) }, noRegression);
  const comparison = compareRuns(before, after) as Comparison; // not null: there are holes in common
  if (values.json) io.stdout.write(evaluationAsJson(after.run, figuresOf(after.rows, settings.seed), comparison));
  else io.stdout.write(formatComparison(after.run, comparison));
  const missed = failedDemands({ atLeast: [], noRegression }, undefined, comparison);
  for (const line of missed) io.stderr.write(`quern: ${line}\n`);
  return missed.length === 0 ? 0 : 1;
}
