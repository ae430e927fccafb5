// A histogram for what may happen a hundred thousand times a second: one binary search and one add per value. Each bucket
// keeps the newest trace whose value fell into it (an exemplar), so that a slow request leads to its trace.
import type { Exemplar, Family, Sample } from './exposition.ts';
import { type Labels, MetricSeries } from './metric-series.ts';
import type { TraceContext } from './trace.ts';

/** `trace`: where the value came from; not kept when it is not sampled, since nobody could open it. */
export type Observe = (value: number, trace?: TraceContext | null) => void;

type State = { counts: Float64Array; sum: number; exemplars: (Exemplar | null)[]; observe: Observe };

export type HistogramOptions = { name: string; help: string; labels?: readonly string[]; buckets: readonly number[] };

export class Histogram {
  readonly #options: HistogramOptions;
  readonly #series: MetricSeries<State>;

  /** `buckets`: rising upper bounds. */
  constructor(options: HistogramOptions) {
    this.#options = options;
    this.#series = new MetricSeries(options.labels ?? [], () => this.#newState());
  }

  /** The observer of one label set. Keep it where it is called often. */
  series(labels: Labels): Observe {
    return this.#series.of(labels).observe;
  }

  observe(value: number, labels: Labels = {}, trace: TraceContext | null = null): void {
    this.#series.of(labels).observe(value, trace);
  }

  #newState(): State {
    const { buckets } = this.#options;
    const counts = new Float64Array(buckets.length + 1);
    const exemplars: (Exemplar | null)[] = new Array(buckets.length + 1).fill(null);
    const state: State = {
      counts,
      sum: 0,
      exemplars,
      observe(value, trace) {
        let low = 0;
        let high = buckets.length;
        while (low < high) {
          const middle = (low + high) >>> 1;
          if ((buckets[middle] as number) < value) low = middle + 1;
          else high = middle;
        }
        counts[low] = (counts[low] as number) + 1;
        state.sum += value;
        if (trace?.sampled) {
          exemplars[low] = { traceId: trace.traceId, spanId: trace.spanId, value, unixMs: Date.now() };
        }
      },
    };
    return state;
  }

  family(): Family {
    const { name, help, buckets, labels: labelNames = [] } = this.#options;
    const samples: Sample[] = [];
    for (const { labels, state } of this.#series) {
      let total = 0;
      const rest = labels === '' ? '' : `,${labels}`;
      for (const [i, count] of state.counts.entries()) {
        total += count;
        const le = `le="${buckets[i] ?? '+Inf'}"`;
        samples.push({ name: `${name}_bucket`, labels: `${le}${rest}`, value: total, exemplar: state.exemplars[i]! });
      }
      samples.push({ name: `${name}_sum`, labels, value: state.sum }, { name: `${name}_count`, labels, value: total });
    }
    return { name, help, type: 'histogram', labelNames: [...labelNames, 'le'], samples };
  }
}
