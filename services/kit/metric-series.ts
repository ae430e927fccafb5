// The series of one metric: one state per set of label values. Their number is bounded, because each costs memory here and
// in Prometheus: values beyond the bound are counted together as "other".
import { assert } from './assert.ts';
import { formatLabels } from './exposition.ts';
import { METRIC_LABEL_VALUES_MAX, METRIC_SERIES_MAX } from './limits.ts';

export type Labels = Record<string, string | number>;

export const OTHER = 'other';

/** Separates label values in keys; no label of ours holds it. */
const SEPARATOR = '\u0000';

export class MetricSeries<S> {
  readonly #labelNames: readonly string[];
  readonly #make: () => S;
  readonly #states = new Map<string, { labels: string; state: S }>();
  readonly #values: Set<string>[];

  constructor(labelNames: readonly string[], make: () => S) {
    this.#labelNames = labelNames;
    this.#make = make;
    this.#values = labelNames.map(() => new Set());
    if (labelNames.length === 0) this.of({}); // a metric without labels is there from the start
  }

  get size(): number {
    return this.#states.size;
  }

  /** The state of these label values, made at first use; beyond the bounds that of "other". */
  of(labels: Labels): S {
    const names = this.#labelNames;
    let key = '';
    for (let i = 0; i < names.length; i += 1) key += `${labels[names[i] as string] ?? ''}${SEPARATOR}`;
    return (this.#states.get(key) ?? this.#add(labels)).state;
  }

  #add(labels: Labels): { labels: string; state: S } {
    const names = this.#labelNames;
    for (const name of Object.keys(labels)) assert(names.includes(name), `label "${name}": expected one of ${names}`);
    let values = names.map((name, i) => {
      const value = String(labels[name] ?? '');
      const seen = this.#values[i] as Set<string>;
      if (!seen.has(value) && seen.size >= METRIC_LABEL_VALUES_MAX) return OTHER;
      seen.add(value);
      return value;
    });
    const keyOf = (): string => values.map((value) => `${value}${SEPARATOR}`).join('');
    if (!this.#states.has(keyOf()) && this.#states.size >= METRIC_SERIES_MAX) values = values.map(() => OTHER);
    const known = this.#states.get(keyOf());
    if (known) return known;
    const entry = {
      labels: formatLabels(Object.fromEntries(names.map((name, i) => [name, values[i]!]))),
      state: this.#make(),
    };
    this.#states.set(keyOf(), entry);
    return entry;
  }

  clear(): void {
    this.#states.clear();
    for (const seen of this.#values) seen.clear();
  }

  *[Symbol.iterator](): Generator<{ labels: string; state: S }> {
    yield* this.#states.values();
  }
}
