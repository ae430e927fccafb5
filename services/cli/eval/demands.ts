/** What an evaluation is refused for: figures below a limit, or a clear step back from an earlier run. */
import { QuernError } from '#kit/errors.ts';
import type { Comparison } from './comparison.ts';
import { type Figures, METRICS, type Metric } from './figures.ts';

export type Demands = { atLeast: { metric: Metric; value: number }[]; noRegression: boolean };

export function demandsOf(below: readonly string[], noRegression: boolean, compare: string | undefined): Demands {
  if (noRegression && compare === undefined)
    throw new QuernError('INVALID_ARGUMENT', '--fail-on-regression: expected --compare FILE beside it');
  return { atLeast: below.map(limitOf), noRegression };
}

function limitOf(text: string): { metric: Metric; value: number } {
  const [name = '', given = '', ...rest] = text.split('=');
  const metric = METRICS.find((one) => one === name);
  const value = Number(given);
  if (metric !== undefined && rest.length === 0 && given.trim() !== '' && value >= 0 && value <= 1)
    return { metric, value };
  const wanted = `METRIC=VALUE with a METRIC of ${METRICS.join(', ')} and a VALUE from 0 to 1`;
  throw new QuernError('INVALID_ARGUMENT', `--fail-below: expected ${wanted}, got "${text}"`);
}

/** A line for each demand that is missed. `all`: the figures of all languages. */
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
