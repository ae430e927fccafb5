// From runs to the table: each row with its bar and whether it holds.
import type { EngineRow } from './counting-addon.ts';
import type { RealRun } from './real-run.ts';
import type { Shown } from './replay-typist.ts';
import type { Run } from './scripted-run.ts';
import type { Asked } from './tapped-source.ts';

export type Row = {
  what: string;
  value: string;
  bar: string;
  /** Null: there is no bar. */
  holds: boolean | null;
};

/** Of quern.common.v1.PriorityClass. */
const WARM = 6;
const REQUESTS_PER_100_KEYS = 25;
const IN_FLIGHT = 2;
const STEPS_AFTER_CANCEL = 1;
const CACHED_SHARE = 0.7;
const BOUND_POINTS = 0.05;
const REQUEST_P50_MS = 80;
const KEY_P50_MS = 200;
const KEY_P95_MS = 350;

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const percent = (share: number): string => (Number.isFinite(share) ? `${(share * 100).toFixed(1)} %` : '-');
const ms = (value: number): string =>
  Number.isFinite(value) ? `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms` : '-';
const mean = (total: number, count: number): string => (total / count).toFixed(0);
const plain = (what: string, value: string): Row => ({ what, value, bar: '', holds: null });
const atMost = (what: string, value: number, bar: number, show: (value: number) => string): Row => ({
  ...{ what, value: show(value), bar: `≤ ${show(bar)}` },
  holds: value <= bar,
});

function latencies(shown: readonly Shown[], from: readonly Shown['from'][]): number[] {
  return shown.filter((one) => from.includes(one.from)).map(({ keyAt, shownAt }) => shownAt - keyAt);
}

/** What both kinds of run tell. */
export function clientRows(runs: readonly Run[]): Row[] {
  const asked = runs.flatMap((run) => run.asked);
  const shown = runs.flatMap(({ played }) => played.shown);
  const keys = sum(runs.map(({ played }) => played.keys));
  const seconds = sum(runs.map(({ played }) => played.milliseconds)) / 1000;
  const speculative = asked.filter(({ priority }) => priority === 'speculative');
  const cancelled = asked.filter(({ outcome }) => outcome === 'cancelled');
  const perHundred = (count: number): number => (count / keys) * 100;
  const reasons: Record<string, number> = {};
  for (const { played } of runs) {
    for (const [reason, count] of Object.entries(played.reasons)) reasons[reason] = (reasons[reason] ?? 0) + count;
  }
  const told = Object.entries(reasons).sort((a, b) => b[1] - a[1]);
  const tooOne = (value: number): string => value.toFixed(1);
  return [
    plain('traces, keys, time', `${runs.length}, ${keys}, ${seconds.toFixed(0)} s`),
    atMost('requests per 100 keys', perHundred(asked.length), REQUESTS_PER_100_KEYS, tooOne),
    plain('of these speculative', tooOne(perHundred(speculative.length))),
    plain('warm-ups per 100 keys', tooOne(perHundred(sum(runs.map(({ warms }) => warms))))),
    atMost('most requests in flight', Math.max(...runs.map(({ inFlightMax }) => inFlightMax)), IN_FLIGHT, String),
    plain('cancelled share of requests', percent(cancelled.length / asked.length)),
    plain('keys behind which something is shown', percent(shown.length / keys)),
    plain('no suggestion', told.map(([reason, count]) => `${reason} ${count}`).join(', ')),
  ];
}

export function latencyRows(runs: readonly Run[]): Row[] {
  const shown = runs.flatMap(({ played }) => played.shown);
  const requests = runs.flatMap(({ asked, played }) => {
    const sent = new Map(asked.map(({ id, sentAt }) => [id, sentAt]));
    const byMesh = played.shown.filter(({ from }) => from === 'mesh');
    return byMesh.map(({ id, shownAt }) => shownAt - (sent.get(id) ?? Number.NaN));
  });
  const fresh = latencies(shown, ['mesh', 'cache']);
  const mesh = latencies(shown, ['mesh']);
  const all = latencies(shown, ['mesh', 'cache', 'continued']);
  return [
    atMost(`request to shown, p50 (${requests.length})`, quantile(requests, 0.5), REQUEST_P50_MS, ms),
    plain('request to shown, p95', ms(quantile(requests, 0.95))),
    atMost(`key to new suggestion, p50 (${fresh.length})`, quantile(fresh, 0.5), KEY_P50_MS, ms),
    atMost('key to new suggestion, p95', quantile(fresh, 0.95), KEY_P95_MS, ms),
    atMost(`the same, only by the mesh, p50 (${mesh.length})`, quantile(mesh, 0.5), KEY_P50_MS, ms),
    atMost('the same, only by the mesh, p95', quantile(mesh, 0.95), KEY_P95_MS, ms),
    plain(`with what goes on being shown, p50 (${all.length})`, ms(quantile(all, 0.5))),
  ];
}

/** Tokens of requests that were shown, by the share of their text that was. */
function shownTokens(runs: readonly RealRun[]): number {
  let tokens = 0;
  for (const { played, asked, explained } of runs) {
    for (const [id, { completionTokens }] of explained) {
      const made = asked.find((one) => one.id === id)?.chars ?? 0;
      const seen = Math.max(...played.shown.filter((one) => one.id === id).map(({ chars }) => chars));
      tokens += completionTokens * (made === 0 ? 0 : Math.min(1, seen / made));
    }
  }
  return tokens;
}

/** What a prompt in the order prefix, suffix can have cached at most, in characters. */
function psmBound(asked: readonly Asked[]): number {
  const before = sum(asked.map(({ sent }) => sent.chunks + sent.prefix));
  return before / (before + sum(asked.map(({ sent }) => sent.suffix)));
}

export function meshRows(runs: readonly RealRun[]): Row[] {
  const rows = runs.flatMap(({ counts }) => counts.rows).filter(({ priorityClass }) => priorityClass !== WARM);
  const total = (read: (row: EngineRow) => number): number => sum(rows.map(read));
  // What was cancelled while it waited was looked up nowhere.
  const begun = rows.filter(({ prefillMs }) => prefillMs > 0);
  const cached =
    sum(begun.map(({ cachedTokens }) => cachedTokens)) / sum(begun.map(({ promptTokens }) => promptTokens));
  const bound = psmBound(runs.flatMap(({ asked }) => asked));
  const generated = total(({ completionTokens }) => completionTokens);
  const freed = rows.flatMap(({ stepsAfterCancel }) => (stepsAfterCancel === null ? [] : [stepsAfterCancel]));
  const cancelMs = rows.flatMap((row) => (row.cancelMs === null ? [] : [row.cancelMs]));
  const stepMs = sum(runs.map(({ counts }) => counts.forwardMs)) / sum(runs.map(({ counts }) => counts.steps));
  const prompts = rows.map(({ promptTokens }) => promptTokens);
  return [
    plain('prompt tokens, p50 and most', `${quantile(prompts, 0.5)}, ${Math.max(...prompts)}`),
    {
      what: 'prompt tokens from the cache',
      value: percent(cached),
      bar: `≥ ${percent(CACHED_SHARE)}`,
      holds: cached >= CACHED_SHARE,
    },
    {
      what: 'the same, against the bound of prefix-first prompts',
      ...{ value: percent(cached), bar: `≥ ${percent(bound - BOUND_POINTS)}`, holds: cached >= bound - BOUND_POINTS },
    },
    atMost(`steps from cancel to free slot, most (${freed.length})`, Math.max(0, ...freed), STEPS_AFTER_CANCEL, String),
    plain(
      'the same in time, p50, p99; a step takes',
      `${ms(quantile(cancelMs, 0.5))}, ${ms(quantile(cancelMs, 0.99))}; ${ms(stepMs)}`,
    ),
    plain('generated tokens, never shown of them', `${generated}, ${percent(1 - shownTokens(runs) / generated)}`),
  ];
}

const STAGES = ['admit', 'tokenize', 'route', 'queue', 'prefill', 'decode', 'finish'];

/** Of requests that were shown by the mesh: where their time went. */
export function timeRows(runs: readonly RealRun[]): Row[] {
  const waits: number[] = [];
  const stages: Record<string, number[]> = Object.fromEntries(STAGES.map((name) => [name, []]));
  const outside: number[] = [];
  for (const { played, asked, explained } of runs) {
    for (const { id, from, keyAt, shownAt } of played.shown) {
      const sent = asked.find((one) => one.id === id);
      const known = explained.get(id);
      if (from !== 'mesh' || !sent || !known) continue;
      waits.push(Math.max(0, sent.sentAt - keyAt));
      outside.push(shownAt - sent.sentAt - known.totalMs);
      for (const [name, values] of Object.entries(stages)) values.push(known.stages[name] ?? 0);
    }
  }
  const both = (values: readonly number[]): string => `${ms(quantile(values, 0.5))}, ${ms(quantile(values, 0.95))}`;
  return [
    plain('wait for further typing, p50, p95', both(waits)),
    ...Object.entries(stages).map(([name, values]) => plain(`${name}, p50, p95`, both(values))),
    plain('client, connection and gateway around it, p50, p95', both(outside)),
  ];
}

/** Of the prompts alone: what an engine would have cached that reads each to its end. */
export function promptRows(runs: readonly Run[]): Row[] {
  const total = (read: (prompts: NonNullable<Run['prompts']>) => number): number =>
    sum(runs.flatMap(({ prompts }) => (prompts ? [read(prompts)] : [])));
  const [tokens, cached] = [total((prompts) => prompts.tokens), total((prompts) => prompts.cached)];
  const requests = sum(runs.map(({ asked }) => asked.length));
  return [
    {
      what: 'prompt tokens that a cache has had before',
      ...{ value: percent(cached / tokens), bar: `≥ ${percent(CACHED_SHARE)}`, holds: cached / tokens >= CACHED_SHARE },
    },
    plain(
      'prompt tokens, and new ones of them, in the mean',
      `${mean(tokens, requests)}, ${mean(tokens - cached, requests)}`,
    ),
  ];
}

export function keptRows(runs: readonly Run[]): Row[] {
  const all = (read: (run: Run) => number): number => sum(runs.map(read));
  const accepted = all(({ played }) => played.acceptedChars);
  const kept = all(({ played }) => played.keptChars);
  const typed = all(({ played }) => played.typedChars);
  return [
    plain('suggestions taken', String(all(({ played }) => played.acceptances))),
    plain('characters taken, kept of them', `${accepted}, ${percent(kept / accepted)}`),
    plain('kept characters of all that was written', percent(kept / (kept + typed))),
  ];
}

export function formatRows(title: string, rows: readonly Row[]): string {
  const lines = rows.map(({ what, value, bar, holds }) => {
    const verdict = holds === null ? '' : holds ? 'holds' : '**missed**';
    return `| ${what} | ${value} | ${bar} | ${verdict} |`;
  });
  return [`## ${title}`, '', '| what | value | bar | |', '|---|---|---|---|', ...lines, ''].join('\n');
}
