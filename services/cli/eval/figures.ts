/** From rows to figures: by language and in all, each with its interval. */
import { percentile } from '../bench/report.ts';
import { bootstrapMean, type Estimate, proportion } from './intervals.ts';
import type { Row } from './result.ts';

/** Columns that are true or false, and columns that are means of numbers. */
const SHARES = ['exact', 'parses', 'parses_empty', 'identifier_exact'] as const;
const MEANS = ['edit_similarity', 'identifier_precision', 'identifier_recall', 'identifier_f1'] as const;
/** What is printed, and what a run may be refused for. */
export const METRICS = ['exact', 'edit_similarity', 'parses', 'identifier_exact', 'identifier_f1'] as const;
export type Metric = (typeof METRICS)[number];
type Column = (typeof SHARES)[number] | (typeof MEANS)[number];

export type Latency = { p50: number; p95: number };

export type Figures = {
  group: string;
  holes: number;
  answered: number;
  /** How many by their gRPC code. */
  failures: Record<string, number>;
  latency_ms: Latency;
  /** Of the prompts' tokens, those that the prefix cache had; null: nothing is known of it. */
  cached_share: number | null;
  metrics: Record<Column, Estimate>;
};

export const isShare = (name: Column): boolean => SHARES.some((share) => share === name);
export const answeredOf = (rows: readonly Row[]): Row[] => rows.filter(({ failure }) => failure === null);

function estimate(rows: readonly Row[], name: Column, seed: number): Estimate {
  if (isShare(name)) return proportion(rows.filter((row) => row[name] === true).length, rows.length);
  return bootstrapMean(
    rows.map((row) => Number(row[name])),
    seed,
  );
}

export function latencyOf(answered: readonly Row[]): Latency {
  const times = answered.map((row) => Number(row.latency_ms));
  return { p50: percentile(times, 50), p95: percentile(times, 95) };
}

export function cachedShare(answered: readonly Row[]): number | null {
  const told = answered.flatMap(({ prompt_tokens: all, cached_tokens: cached }) =>
    typeof all === 'number' && typeof cached === 'number' ? [{ all, cached }] : [],
  );
  const all = told.reduce((sum, one) => sum + one.all, 0);
  if (told.length < answered.length || all === 0) return null;
  return told.reduce((sum, one) => sum + one.cached, 0) / all;
}

function figuresFor(group: string, rows: readonly Row[], seed: number): Figures {
  const answered = answeredOf(rows);
  const failures: Record<string, number> = {};
  for (const { failure } of rows) if (failure !== null) failures[failure] = (failures[failure] ?? 0) + 1;
  const names = [...SHARES, ...MEANS];
  return {
    ...{ group, holes: rows.length, answered: answered.length, failures },
    ...{ latency_ms: latencyOf(answered), cached_share: cachedShare(answered) },
    metrics: Object.fromEntries(names.map((name) => [name, estimate(answered, name, seed)])) as Figures['metrics'],
  };
}

/** Of each language, and of all last. What failed is counted beside the figures and is in none of them. */
export function figuresOf(rows: readonly Row[], seed: number): Figures[] {
  const languages = [...new Set(rows.map(({ language }) => language))].sort();
  const groups = languages.map((language) => [language, rows.filter((row) => row.language === language)] as const);
  return [...groups, ['all', rows] as const].map(([group, some]) => figuresFor(group, some, seed));
}
