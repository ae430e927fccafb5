/** Two runs beside one another, hole by hole. */
import { QuernError } from '#kit/errors.ts';
import { answeredOf, cachedShare, isShare, type Latency, latencyOf, METRICS, type Metric } from './figures.ts';
import { bootstrapMean, type Estimate, mcNemar, meanOf, pairedDifference } from './intervals.ts';
import type { Evaluation, Row, Run } from './result.ts';

export type Difference = {
  metric: Metric;
  earlier: number;
  later: number;
  /** later - earlier over the same holes. */
  change: Estimate;
  /** Holes of which the figure rose, and fell. */
  rose: number;
  fell: number;
  /** McNemar's exact test, for shares. */
  p: number | null;
  /** same: the figure of no hole changed. unclear: too few did to tell. */
  verdict: 'better' | 'worse' | 'same' | 'unclear';
};

export type Comparison = {
  earlier: Run;
  /** Holes that both runs answered. */
  pairs: number;
  only_earlier: number;
  only_later: number;
  settings: SettingChange[];
  times: Times;
  differences: Difference[];
};

/** Of the holes that both runs answered. */
export type Times = {
  earlier: Latency;
  later: Latency;
  /** Of the prompts' tokens, those that the prefix cache had; null: it was not told. */
  cached_earlier: number | null;
  cached_later: number | null;
  /** False: one run found more in the cache than the other, or may have. */
  comparable: boolean;
};

const SIGNIFICANT = 0.05;
/** Of the prompts' tokens. What is in the cache is not computed, so that times differ by more than this. */
const CACHED_DIFFERENCE_MAX = 0.05;

/** Over the holes that both runs answered; null where there is none. */
export function compareRuns(earlier: Evaluation, later: Evaluation): Comparison | null {
  const before = new Map(answeredOf(earlier.rows).map((row) => [row.id, row]));
  const after = answeredOf(later.rows);
  const pairs = after.flatMap((row) => {
    const old = before.get(row.id);
    return old ? [{ old, row }] : [];
  });
  if (pairs.length === 0) return null;
  const { seed } = later.run.settings;
  return {
    earlier: earlier.run,
    pairs: pairs.length,
    only_earlier: before.size - pairs.length,
    only_later: after.length - pairs.length,
    settings: settingChanges(earlier.run.settings, later.run.settings),
    times: timesOf(pairs),
    differences: METRICS.map((metric) => differenceOf(metric, pairs, seed)),
  };
}

function timesOf(pairs: readonly { old: Row; row: Row }[]): Times {
  const before = pairs.map(({ old }) => old);
  const after = pairs.map(({ row }) => row);
  const [was, is] = [cachedShare(before), cachedShare(after)];
  return {
    ...{ earlier: latencyOf(before), later: latencyOf(after), cached_earlier: was, cached_later: is },
    comparable: was !== null && is !== null && Math.abs(is - was) <= CACHED_DIFFERENCE_MAX,
  };
}

function differenceOf(metric: Metric, pairs: readonly { old: Row; row: Row }[], seed: number): Difference {
  const before = pairs.map(({ old }) => Number(old[metric]));
  const after = pairs.map(({ row }) => Number(row[metric]));
  const changes = after.map((value, at) => value - Number(before[at]));
  const rose = changes.filter((one) => one > 0).length;
  const fell = changes.filter((one) => one < 0).length;
  const both = after.filter((value, at) => value === 1 && before[at] === 1).length;
  const counts = { both, gained: rose, lost: fell, neither: pairs.length - both - rose - fell };
  const change = isShare(metric) ? pairedDifference(counts) : bootstrapMean(changes, seed);
  const p = isShare(metric) ? mcNemar(rose, fell) : null;
  const isClear = p === null ? change.low > 0 || change.high < 0 : p < SIGNIFICANT;
  const direction = change.value > 0 ? 'better' : 'worse';
  const verdict = isClear ? direction : 'unclear';
  return {
    ...{ metric, earlier: meanOf(before), later: meanOf(after), change, rose, fell, p },
    verdict: rose + fell === 0 ? 'same' : verdict,
  };
}

type Settings = Run['settings'];

/** What changes answers to the same holes, whatever the model is. */
const CHANGEABLE = ['max_tokens', 'temperature', 'lines_before', 'lines_after', 'prompt_tokens'] as const;
export type SettingChange = { name: (typeof CHANGEABLE)[number]; earlier: number; later: number };

function settingChanges(earlier: Settings, later: Settings): SettingChange[] {
  const all = CHANGEABLE.map((name) => ({ name, earlier: earlier[name], later: later[name] }));
  return all.filter((change) => change.earlier !== change.later);
}

export const describeChanges = (changes: readonly SettingChange[]): string =>
  changes.map(({ name, earlier, later }) => `${name} ${earlier} then, ${later} now`).join('; ');

/**
 * How many holes are in both, and which settings differ. INVALID_ARGUMENT where no hole is, and where settings differ although a step
 * back shall count, which could be theirs.
 */
export function checkComparable(
  earlier: Evaluation,
  later: { settings: Settings; ids: readonly string[] },
  noRegression: boolean,
): { common: number; changes: SettingChange[] } {
  const known = new Set(answeredOf(earlier.rows).map(({ id }) => id));
  const common = later.ids.filter((id) => known.has(id)).length;
  if (common === 0) throw nothingInCommon(earlier.run.settings, later.settings);
  const changes = settingChanges(earlier.run.settings, later.settings);
  if (!noRegression || changes.length === 0) return { common, changes };
  const hint = 'a step back could be theirs';
  throw new QuernError(
    'INVALID_ARGUMENT',
    `--fail-on-regression: expected runs of the same settings, got ${describeChanges(changes)}: ${hint}`,
  );
}

function nothingInCommon(a: Settings, b: Settings): QuernError {
  const these = `${a.kind} holes with seed ${a.seed} and ${b.kind} holes with seed ${b.seed}`;
  const files = a.sources_hash === b.sources_hash ? '' : ', of other files';
  return new QuernError(
    'INVALID_ARGUMENT',
    `nothing to compare: the runs have no answered hole in common (${these}${files}); give both the same files, kind and seed`,
  );
}
