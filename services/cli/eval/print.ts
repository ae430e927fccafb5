/** An evaluation and a comparison as text for people and as JSON for programs. */
import { counted } from '../counted.ts';
import { formatTable } from '../table.ts';
import { type Comparison, type Difference, describeChanges, type Times } from './comparison.ts';
import { type Figures, type Latency, METRICS, type Metric } from './figures.ts';
import type { Estimate } from './intervals.ts';
import { fourDigits, type Run } from './result.ts';

const TITLES: Readonly<Record<Metric, string>> = {
  exact: 'exact match',
  edit_similarity: 'edit similarity',
  parses: 'parses',
  identifier_exact: 'identifiers equal',
  identifier_f1: 'identifier F1',
};

const NOTHING = '-';
const three = (value: number): string => value.toFixed(3);
const withInterval = ({ value, low, high }: Estimate): string => `${three(value)} [${three(low)}, ${three(high)}]`;

/** Some titles of rows, and a column of each group. */
const FIRST_COLUMN = Math.max(...METRICS.map((name) => TITLES[name].length), '  with nothing in'.length);
const COLUMN = '0.000 [0.000, 0.000]'.length;
const GAP = 2;

/** `columns`: how wide a terminal is; where not all languages find room, they go on in further tables. */
export function formatFigures(run: Run, groups: readonly Figures[], columns: number | undefined): string {
  const { model, settings } = run;
  const order = model.prompt_order || 'order unknown';
  const what = `${model.name} (${model.fim_family}, ${order}, ${model.dtype} on ${model.backend})`;
  const { kind, seed, files, sources, lines_before: before, lines_after: after } = settings;
  const where = `${kind} holes, seed ${seed}, in ${counted(files, 'file')} of ${sources}, ${before} and ${after} lines around them`;
  const all = groups.at(-1) as Figures;
  const languages = groups.slice(0, -1);
  const shown = languages.length === 1 ? languages : [all, ...languages];
  const room = columns === undefined ? shown.length : Math.floor((columns - FIRST_COLUMN) / (COLUMN + GAP));
  const width = Math.max(1, room);
  const tables = Array.from({ length: Math.ceil(shown.length / width) }, (_, at) =>
    figuresTable(shown.slice(at * width, (at + 1) * width)),
  );
  const part = run.partial ? 'not finished: ' : '';
  const head = `${what}\n${part}${where}${promptBound(run)}; 95 % intervals in brackets`;
  return `${head}\n\n${tables.join('\n')}${cacheNote(all)}${failuresOf(all)}`;
}

function figuresTable(groups: readonly Figures[]): string {
  const row = (title: string, cell: (figures: Figures) => string): string[] => [
    title,
    ...groups.map((figures) => (figures.answered === 0 ? NOTHING : cell(figures))),
  ];
  const metric = (name: Metric): string[] => row(TITLES[name], ({ metrics }) => withInterval(metrics[name]));
  return formatTable(
    ['', ...groups.map(({ group }) => group)],
    [
      [
        'answered',
        ...groups.map(({ answered, holes }) => (answered === holes ? `${holes}` : `${answered} of ${holes}`)),
      ],
      metric('exact'),
      metric('edit_similarity'),
      metric('parses'),
      row('  with nothing in', ({ metrics }) => three(metrics.parses_empty.value)),
      metric('identifier_exact'),
      metric('identifier_f1'),
      row('ms, p50 and p95', ({ latency_ms: times }) => milliseconds(times)),
      row('prompt cached', ({ cached_share: share }) => percent(share)),
    ],
  );
}

const milliseconds = ({ p50, p95 }: Latency): string => `${p50.toFixed(0)}, ${p95.toFixed(0)}`;
const percent = (share: number | null): string => (share === null ? 'not told' : `${(share * 100).toFixed(1)} %`);

/** Of a prompt's tokens: what the call said, else what the model's folder does. */
function promptBound({ model, settings }: Run): string {
  if (settings.prompt_tokens > 0) return `, prompts of at most ${settings.prompt_tokens} tokens`;
  return model.infill_prompt_tokens > 0 ? `, prompts of ${model.infill_prompt_tokens} tokens as the model advises` : '';
}

/** Prompts of different holes have less than that in common where the suffix comes first. */
const CACHED_TOLD = 0.1;

function cacheNote({ answered, cached_share: share }: Figures): string {
  if (answered === 0 || share === null || share < CACHED_TOLD) return '';
  return `\nof the prompts' tokens ${percent(share)} were in the prefix cache, not computed: these times are not a first run's\n`;
}

function timesNote({ earlier, later, cached_earlier: was, cached_later: is, comparable }: Times): string {
  const line = `ms, p50 and p95: ${milliseconds(earlier)} then, ${milliseconds(later)} now`;
  const shares = `of the prompts' tokens ${percent(was)} were in the prefix cache then, ${percent(is)} now`;
  return comparable ? `${line} (${shares})` : `${line}: not to be compared, ${shares}`;
}

function failuresOf({ holes, answered, failures }: Figures): string {
  if (answered === holes) return '';
  const reasons = Object.entries(failures).map(([reason, count]) => `${count} ${reason}`);
  return `\n${holes - answered} of ${counted(holes, 'hole')} had no answer (${reasons.join(', ')}); they are in no figure\n`;
}

const VERDICTS: Readonly<Record<Difference['verdict'], string>> = {
  better: 'better',
  worse: 'worse',
  same: 'no difference',
  unclear: 'too few to tell',
};

const nameOf = ({ model, at, partial }: Run): string =>
  `${model.name} of ${at.slice(0, 16).replace('T', ' ')}${partial ? ', not finished' : ''}`;

export function formatComparison(later: Run, comparison: Comparison): string {
  const { earlier, pairs, only_earlier: onlyEarlier, only_later: onlyLater, settings, differences } = comparison;
  const rows = differences.map(({ metric, earlier: from, later: to, change, rose, fell, p, verdict }) => {
    const sign = change.value > 0 ? '+' : '';
    const test = p === null ? '' : p.toPrecision(2);
    return [
      TITLES[metric],
      three(from),
      three(to),
      `${sign}${withInterval(change)}`,
      `${rose}, ${fell}`,
      test,
      VERDICTS[verdict],
    ];
  });
  const header = ['', 'earlier', 'later', 'change', 'rose, fell', 'McNemar p', ''];
  const left = [onlyEarlier && `${onlyEarlier} only in the earlier run`, onlyLater && `${onlyLater} only in the later`];
  const leftOut = left.filter((one) => one !== 0).join(' and ');
  const lines = [
    '',
    `${nameOf(earlier)} -> ${nameOf(later)}`,
    `${counted(pairs, 'hole')} answered in both${leftOut === '' ? '' : `; left out: ${leftOut}`}`,
    ...(settings.length === 0 ? [] : [`other settings: ${describeChanges(settings)}`]),
    ...(differences.every(({ verdict }) => verdict === 'same') ? ['no figure of any hole changed'] : []),
    '',
  ];
  return `${lines.join('\n')}\n${formatTable(header, rows)}\n${timesNote(comparison.times)}\n`;
}

const rounded = ({ value, low, high, n }: Estimate) =>
  n === 0
    ? { value: null, low: null, high: null, n }
    : { value: fourDigits(value), low: fourDigits(low), high: fourDigits(high), n };

/** One line, one document: the run, its figures, and with `comparison` the differences. docs/evaluation.md names the fields. */
export function evaluationAsJson(run: Run, groups: readonly Figures[], comparison: Comparison | null): string {
  const figures = groups.map(({ latency_ms: latency, cached_share: cached, metrics, ...rest }) => ({
    ...rest,
    ...{ latency_ms: latencyAsJson(rest.answered, latency), cached_share: shareAsJson(cached) },
    metrics: Object.fromEntries(Object.entries(metrics).map(([name, estimate]) => [name, rounded(estimate)])),
  }));
  const differences = comparison?.differences.map(({ earlier, later, change, p, ...rest }) => ({
    ...rest,
    ...{ earlier: fourDigits(earlier), later: fourDigits(later), change: rounded(change) },
    p: p === null ? null : Number(p.toPrecision(3)),
  }));
  const compared = comparison && { ...comparison, times: timesAsJson(comparison), differences };
  return `${JSON.stringify({ ...run, figures, ...(compared && { comparison: compared }) })}\n`;
}

const tenths = (ms: number): number => Math.round(ms * 10) / 10;
const shareAsJson = (share: number | null): number | null => (share === null ? null : fourDigits(share));

const latencyAsJson = (answered: number, { p50, p95 }: Latency) =>
  answered === 0 ? { p50: null, p95: null } : { p50: tenths(p50), p95: tenths(p95) };

function timesAsJson({ pairs, times }: Comparison) {
  const { earlier, later, cached_earlier: was, cached_later: is, comparable } = times;
  return {
    ...{ earlier: latencyAsJson(pairs, earlier), later: latencyAsJson(pairs, later) },
    ...{ cached_earlier: shareAsJson(was), cached_later: shareAsJson(is), comparable },
  };
}
