/** What an evaluation is refused for: figures below a limit, or a clear step back from an earlier run. */
import { QuernError } from '#kit/errors.ts';
import type { Io } from '../command.ts';
import { type Comparison, compareRows, type Figures, METRICS, type Metric } from './figures.ts';
import { formatComparison } from './print.ts';
import type { Evaluation } from './result.ts';

export type Demands = { atLeast: { metric: Metric; value: number }[]; noRegression: boolean };

export function demandsOf(below: readonly string[], noRegression: boolean, compare: string | undefined): Demands {
  if (noRegression && compare === undefined)
    throw new QuernError('INVALID_ARGUMENT', '--fail-on-regression: expected --compare FILE beside it');
  return { atLeast: below.map(limitOf), noRegression };
}

function limitOf(text: string): { metric: Metric; value: number } {
  const [name = '', given = ''] = text.split('=', 2);
  const metric = METRICS.find((one) => one === name);
  const value = Number(given);
  if (metric !== undefined && given.trim() !== '' && value >= 0 && value <= 1) return { metric, value };
  const wanted = `METRIC=VALUE with a METRIC of ${METRICS.join(', ')} and a VALUE from 0 to 1`;
  throw new QuernError('INVALID_ARGUMENT', `--fail-below: expected ${wanted}, got "${text}"`);
}

export function compareAndPrint(earlier: Evaluation, later: Evaluation, json: boolean, io: Io): Comparison {
  const comparison = compareRows(earlier.rows, later.rows, later.run.settings.seed);
  if (comparison.pairs === 0) {
    const [a, b] = [earlier.run.settings, later.run.settings];
    const these = `${a.kind} holes with seed ${a.seed} and ${b.kind} holes with seed ${b.seed}`;
    const hint = 'runs are compared over the same files, kind and seed';
    throw new QuernError('INVALID_ARGUMENT', `nothing to compare: the runs have no hole in common (${these}); ${hint}`);
  }
  if (json) io.stdout.write(`${JSON.stringify({ compared_with: earlier.run, ...comparison })}\n`);
  else io.stdout.write(formatComparison(earlier.run, later.run, comparison));
  return comparison;
}

/** A line for each demand that is missed. */
export function failedDemands(
  { atLeast, noRegression }: Demands,
  all: Figures | undefined,
  comparison: Comparison | null,
): string[] {
  const low = atLeast
    .filter(({ metric, value }) => all === undefined || all.metrics[metric].value < value)
    .map(({ metric, value }) => `${metric} is ${all?.metrics[metric].value.toFixed(3)}, below ${value}`);
  const worse = noRegression ? (comparison?.differences ?? []).filter(({ verdict }) => verdict === 'worse') : [];
  return [
    ...low,
    ...worse.map(({ metric, change }) => `${metric} is worse by ${(-change.value).toFixed(3)} than before`),
  ];
}
