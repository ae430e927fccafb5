/** An evaluation and a comparison as text for people. */
import { formatTable } from '../table.ts';
import { type Comparison, type Figures, METRICS } from './figures.ts';
import type { Estimate } from './intervals.ts';
import type { Run } from './result.ts';

const TITLES: Record<(typeof METRICS)[number], string> = {
  exact: 'exact match',
  edit_similarity: 'edit similarity',
  parses: 'parses',
  identifier_exact: 'identifiers equal',
  identifier_f1: 'identifier F1',
};

const three = (value: number): string => value.toFixed(3);
const withInterval = ({ value, low, high }: Estimate): string => `${three(value)} [${three(low)}, ${three(high)}]`;

/** Markdown as well as a terminal can show it. */
export function formatFigures(run: Run, groups: readonly Figures[]): string {
  const { model, settings } = run;
  const header = ['', 'holes', ...METRICS.map((name) => TITLES[name]), '(parses empty)', 'p50 ms', 'p95 ms'];
  const rows = groups.map(({ group, answered, metrics, latency_ms: latency }) => [
    group,
    String(answered),
    ...METRICS.map((name) => withInterval(metrics[name])),
    three(metrics.parses_empty.value),
    latency.p50.toFixed(0),
    latency.p95.toFixed(0),
  ]);
  const order = model.prompt_order || 'order unknown';
  const what = `${model.name} (${model.fim_family}, ${order}, ${model.dtype} on ${model.backend})`;
  const { kind, seed, files, sources, lines_before: before, lines_after: after } = settings;
  const where = `${kind} holes, seed ${seed}, ${files} files of ${sources}, ${before} and ${after} lines around; brackets: 95 %`;
  return `${what}\n${where}\n\n${formatTable(header, rows)}${failuresOf(groups)}`;
}

function failuresOf(groups: readonly Figures[]): string {
  const all = groups.at(-1);
  if (all === undefined || all.answered === all.holes) return '';
  const reasons = Object.entries(all.failures).map(([reason, count]) => `${count} ${reason}`);
  return `\n${all.holes - all.answered} of ${all.holes} holes had no answer (${reasons.join(', ')}); they are in no figure\n`;
}

export function formatComparison(
  earlier: Run,
  later: Run,
  { pairs, onlyEarlier, onlyLater, differences }: Comparison,
): string {
  const name = ({ model, at, settings }: Run): string =>
    `${model.name} of ${at.slice(0, 16).replace('T', ' ')} (${settings.lines_before} and ${settings.lines_after} lines)`;
  const rows = differences.map(({ metric, earlier: from, later: to, change, p, verdict }) => {
    const sign = change.value > 0 ? '+' : '';
    return [
      TITLES[metric],
      three(from),
      three(to),
      `${sign}${withInterval(change)}`,
      p === null ? '' : p.toPrecision(2),
      verdict,
    ];
  });
  const header = ['', 'earlier', 'later', 'change', 'p (McNemar)', ''];
  const left = `${onlyEarlier} holes only in the earlier run and ${onlyLater} only in the later are left out`;
  return `\n${name(earlier)} -> ${name(later)}, ${pairs} holes in both; ${left}\n\n${formatTable(header, rows)}`;
}
