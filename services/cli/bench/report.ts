/** Figures of a bench run, under the field names of vLLM's serving benchmark. Times in milliseconds. */

/** One finished request. Times are milliseconds from send. */
export type Sample = {
  ok: boolean;
  error?: string;
  ttftMs: number;
  e2elMs: number;
  /** Gaps between consecutive chunks that held text. */
  itlsMs: number[];
  promptTokens: number;
  cachedTokens: number;
  outputTokens: number;
};

export type Goodput = { ttftMs: number; tpotMs: number };

/** The p-th percentile (0..100) by linear interpolation; 0 for an empty list. */
export function percentile(values: number[], p: number): number {
  if (values.length === 0) return 0;
  const sorted = [...values].sort((a, b) => a - b);
  const rank = ((sorted.length - 1) * p) / 100;
  const low = sorted[Math.floor(rank)] as number;
  const high = sorted[Math.ceil(rank)] as number;
  return low + (high - low) * (rank - Math.floor(rank));
}

/** TPOT = (E2EL - TTFT) / (output tokens - 1), as vLLM defines it; undefined for a single token. */
export function tpot(sample: Sample): number | undefined {
  return sample.outputTokens > 1 ? (sample.e2elMs - sample.ttftMs) / (sample.outputTokens - 1) : undefined;
}

export function summarize(samples: Sample[], durationS: number, slo: Goodput): Record<string, number> {
  const done = samples.filter((sample) => sample.ok);
  const sum = (pick: (sample: Sample) => number): number => done.reduce((total, sample) => total + pick(sample), 0);
  const good = done.filter((sample) => sample.ttftMs <= slo.ttftMs && (tpot(sample) ?? 0) <= slo.tpotMs).length;
  const report: Record<string, number> = {
    completed: done.length,
    failed: samples.length - done.length,
    duration: durationS,
    total_input_tokens: sum((sample) => sample.promptTokens),
    total_cached_tokens: sum((sample) => sample.cachedTokens),
    total_output_tokens: sum((sample) => sample.outputTokens),
    request_throughput: done.length / durationS,
    request_goodput: good / durationS,
    output_throughput: sum((sample) => sample.outputTokens) / durationS,
    total_token_throughput: sum((sample) => sample.outputTokens + sample.promptTokens) / durationS,
  };
  const add = (name: string, values: number[]): void => {
    const mean = values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
    const squares = values.reduce((total, value) => total + (value - mean) ** 2, 0);
    report[`mean_${name}_ms`] = mean;
    report[`median_${name}_ms`] = percentile(values, 50);
    report[`std_${name}_ms`] = values.length === 0 ? 0 : Math.sqrt(squares / values.length);
    report[`p95_${name}_ms`] = percentile(values, 95);
    report[`p99_${name}_ms`] = percentile(values, 99);
  };
  add(
    'ttft',
    done.map((sample) => sample.ttftMs),
  );
  add(
    'tpot',
    done.map(tpot).filter((value) => value !== undefined),
  );
  add(
    'itl',
    done.flatMap((sample) => sample.itlsMs),
  );
  add(
    'e2el',
    done.map((sample) => sample.e2elMs),
  );
  return report;
}

/** The report as aligned `name  value` lines; of a run in which nothing completed, only the counts. */
export function formatReport(whole: Record<string, number>): string {
  const { completed = 0, failed = 0, duration = 0 } = whole;
  const report = completed === 0 ? { completed, failed, duration } : whole;
  const width = Math.max(...Object.keys(report).map((name) => name.length));
  const show = (value: number): string => (Number.isInteger(value) ? String(value) : value.toFixed(2));
  return Object.entries(report)
    .map(([name, value]) => `  ${name.padEnd(width)}  ${show(value).padStart(12)}\n`)
    .join('');
}
