/** From rows to figures: by language and in total, each with its interval, and the differences of two runs. */
import { percentile } from '../bench/report.ts';
import { bootstrapMean, type Estimate, mcNemar, meanOf, proportion } from './intervals.ts';
import type { Row } from './result.ts';

/** Columns that are true or false, and columns that are means of numbers. */
export const SHARES = ['exact', 'parses', 'parses_empty', 'identifier_exact'] as const;
export const MEANS = ['edit_similarity', 'identifier_precision', 'identifier_recall', 'identifier_f1'] as const;
/** What is printed, and what a run may be refused for. */
export const METRICS = ['exact', 'edit_similarity', 'parses', 'identifier_exact', 'identifier_f1'] as const;
export type Metric = (typeof METRICS)[number];
type Share = (typeof SHARES)[number];
type Mean = (typeof MEANS)[number];

export type Figures = {
  group: string;
  holes: number;
  answered: number;
  failures: Record<string, number>;
  latency_ms: { p50: number; p95: number };
  metrics: Record<Share | Mean, Estimate>;
};

const isShare = (name: Share | Mean): name is Share => SHARES.some((share) => share === name);
const answeredOf = (rows: readonly Row[]): Row[] => rows.filter(({ failure }) => failure === null);

function estimate(rows: readonly Row[], name: Share | Mean, seed: number): Estimate {
  if (isShare(name)) return proportion(rows.filter((row) => row[name] === true).length, rows.length);
  return bootstrapMean(
    rows.map((row) => Number(row[name])),
    seed,
  );
}

function figuresFor(group: string, rows: readonly Row[], seed: number): Figures {
  const answered = answeredOf(rows);
  const failures: Record<string, number> = {};
  for (const { failure } of rows) if (failure !== null) failures[failure] = (failures[failure] ?? 0) + 1;
  const times = answered.map((row) => Number(row.latency_ms));
  const names = [...SHARES, ...MEANS];
  return {
    ...{ group, holes: rows.length, answered: answered.length, failures },
    latency_ms: { p50: percentile(times, 50), p95: percentile(times, 95) },
    metrics: Object.fromEntries(names.map((name) => [name, estimate(answered, name, seed)])) as Figures['metrics'],
  };
}

/** Of each language, and of all last. What failed is counted beside the figures and is in none of them. */
export function figuresOf(rows: readonly Row[], seed: number): Figures[] {
  const languages = [...new Set(rows.map(({ language }) => language))].sort();
  const groups = languages.map((language) => [language, rows.filter((row) => row.language === language)] as const);
  return [...groups, ['all', rows] as const].map(([group, some]) => figuresFor(group, some, seed));
}

export type Difference = {
  metric: Metric;
  earlier: number;
  later: number;
  /** later - earlier over the same holes. */
  change: Estimate;
  /** McNemar's exact test, for shares. */
  p: number | null;
  verdict: 'better' | 'worse' | 'unclear';
};

export type Comparison = { pairs: number; onlyEarlier: number; onlyLater: number; differences: Difference[] };

const SIGNIFICANT = 0.05;

/** Over the holes that both runs answered. */
export function compareRows(earlier: readonly Row[], later: readonly Row[], seed: number): Comparison {
  const before = new Map(answeredOf(earlier).map((row) => [row.id, row]));
  const after = answeredOf(later);
  const pairs = after.flatMap((row) => {
    const old = before.get(row.id);
    return old ? [{ old, row }] : [];
  });
  return {
    ...{ pairs: pairs.length, onlyEarlier: before.size - pairs.length, onlyLater: after.length - pairs.length },
    differences: pairs.length === 0 ? [] : METRICS.map((metric) => differenceOf(metric, pairs, seed)),
  };
}

function differenceOf(metric: Metric, pairs: readonly { old: Row; row: Row }[], seed: number): Difference {
  const changes = pairs.map(({ old, row }) => Number(row[metric]) - Number(old[metric]));
  const change = bootstrapMean(changes, seed);
  const gained = changes.filter((one) => one > 0).length;
  const lost = changes.filter((one) => one < 0).length;
  const p = isShare(metric) ? mcNemar(gained, lost) : null;
  const isClear = p === null ? change.low > 0 || change.high < 0 : p < SIGNIFICANT;
  const direction = change.value > 0 ? 'better' : 'worse';
  return {
    ...{ metric, change, p },
    earlier: meanOf(pairs.map(({ old }) => Number(old[metric]))),
    later: meanOf(pairs.map(({ row }) => Number(row[metric]))),
    verdict: isClear && change.value !== 0 ? direction : 'unclear',
  };
}
