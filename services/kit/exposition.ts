// The two text formats in which Prometheus reads metrics: its own (version 0.0.4) and OpenMetrics 1.0, which carries
// exemplars (https://prometheus.io/docs/specs/om/open_metrics_spec/).

export type MetricFormat = 'prometheus' | 'openmetrics';

/** A measured value and the trace it came from. */
export type Exemplar = { traceId: string; spanId: string; value: number; unixMs: number };

/** `labels` as in the format, without braces: `model="m",code="OK"`. */
export type Sample = { name: string; labels: string; value: number; exemplar?: Exemplar | null };

/** `name` as it is scraped: that of a counter ends in _total. `labelNames`: those a sample may have, where they are known. */
export type Family = {
  name: string;
  help: string;
  type: string;
  labelNames?: readonly string[];
  samples: Sample[];
};

export const CONTENT_TYPES: Record<MetricFormat, string> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** OpenMetrics when the Accept header asks for it, with whatever weight: who names it can read it. */
export function formatFor(accept: string | undefined): MetricFormat {
  return accept?.includes('application/openmetrics-text') ? 'openmetrics' : 'prometheus';
}

/** As both formats ask: backslash, quote and line end. */
export function escapeLabel(value: string): string {
  if (!/[\\"\n]/.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/** `a="1",b="2"`. Labels without a value are left out: for Prometheus that is the same. */
export function formatLabels(labels: Record<string, string | number>): string {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(labels)) {
    if (value !== '') parts.push(`${name}="${escapeLabel(String(value))}"`);
  }
  return parts.join(',');
}

function formatValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value);
}

function formatExemplar({ traceId, spanId, value, unixMs }: Exemplar): string {
  return ` # {trace_id="${traceId}",span_id="${spanId}"} ${formatValue(value)} ${(unixMs / 1000).toFixed(3)}`;
}

/** The whole answer of a scrape. `common` labels stand behind each sample's own. */
export function renderFamilies(families: readonly Family[], common: string, format: MetricFormat): string {
  const open = format === 'openmetrics';
  const lines: string[] = [];
  for (const { name, help, type, samples } of families) {
    const family = open && type === 'counter' ? name.replace(/_total$/, '') : name;
    const text = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
    lines.push(`# HELP ${family} ${open ? text.replaceAll('"', '\\"') : text}`, `# TYPE ${family} ${type}`);
    for (const sample of samples) {
      const labels = sample.labels === '' || common === '' ? sample.labels + common : `${sample.labels},${common}`;
      const exemplar = open && sample.exemplar ? formatExemplar(sample.exemplar) : '';
      lines.push(`${sample.name}${labels === '' ? '' : `{${labels}}`} ${formatValue(sample.value)}${exemplar}`);
    }
  }
  if (open) lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}
