/** Figures by language, how they are printed, what a run is refused for, and the file they are kept in. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { compareRuns } from '../../../services/cli/eval/comparison.ts';
import { demandsOf, failedDemands } from '../../../services/cli/eval/demands.ts';
import { figuresOf } from '../../../services/cli/eval/figures.ts';
import { proportion } from '../../../services/cli/eval/intervals.ts';
import { evaluationAsJson, formatFigures } from '../../../services/cli/eval/print.ts';
import { timeLeft } from '../../../services/cli/eval/progress.ts';
import { linesOf, readEvaluation } from '../../../services/cli/eval/result.ts';
import { failed, RUN, row } from './support/eval-rows.ts';

test('figures are of what was answered; failures are counted by their reason', () => {
  const rows = [row(0, { exact: true }), row(1), row(2, { edit_similarity: 1 }), failed(3, 'RESOURCE_EXHAUSTED')];
  const groups = figuresOf(rows, 1);
  assert.deepEqual(
    groups.map(({ group, holes, answered }) => [group, holes, answered]),
    [
      ['go', 2, 1],
      ['python', 2, 2],
      ['all', 4, 3],
    ],
  );
  const all = groups[2]!;
  assert.deepEqual(all.failures, { RESOURCE_EXHAUSTED: 1 });
  assert.deepEqual(all.metrics.exact, proportion(1, 3));
  assert.ok(Math.abs(all.metrics.edit_similarity.value - 2 / 3) < 1e-12);
  assert.equal(all.latency_ms.p50, 10);
  const text = formatFigures(RUN, groups, undefined);
  assert.match(text, /^ +all +go +python$/m);
  assert.match(text, /^answered +3 of 4 +1 of 2 +2$/m);
  assert.match(text, /^exact match +0\.333 \[0\.061, 0\.792\] +0\.000 \[/m);
  assert.match(text, /^ms, p50 and p95 +10, 19 +10, 10 +10, 19$/m);
  assert.match(text, /1 of 4 holes had no answer \(1 RESOURCE_EXHAUSTED\); they are in no figure/);
  assert.match(formatFigures({ ...RUN, partial: true }, groups, undefined), /\nnot finished: line holes, seed 1, /);
});

test('what a terminal has no room for goes on in a further table', () => {
  const groups = figuresOf([row(0), row(1)], 1);
  const heads = (columns: number): string[] =>
    formatFigures(RUN, groups, columns)
      .split('\n')
      .filter((line) => /^ +[a-z ]+$/.test(line))
      .map((line) => line.trim());
  assert.deepEqual(heads(85), ['all                   go                    python']);
  assert.deepEqual(heads(80), ['all                   go', 'python']);
  assert.deepEqual(heads(20), ['all', 'go', 'python']);
  for (const line of formatFigures(RUN, groups, 80).split('\n').slice(3)) assert.ok(line.length <= 80, line);
});

test('a language without an answer has no figures', () => {
  const groups = figuresOf([row(0), failed(1, 'INTERNAL')], 1);
  assert.match(formatFigures(RUN, groups, undefined), /^exact match +0\.000 \[.*\] +- +0\.000 \[.*\]$/m);
  const { figures } = JSON.parse(evaluationAsJson(RUN, groups, null));
  assert.deepEqual(figures[0].metrics.exact, { value: null, low: null, high: null, n: 0 });
  assert.deepEqual(figures[0].latency_ms, { p50: null, p95: null });
});

test('what the prefix cache had is told, and that times are not those of a first run', () => {
  const cached = (id: number, tokens: number | null) => row(id, { prompt_tokens: 400, cached_tokens: tokens });
  const noted = /in the prefix cache, not computed/;
  const groups = figuresOf([cached(0, 16), cached(2, 0)], 1);
  assert.equal(groups.at(-1)?.cached_share, 16 / 800);
  const first = formatFigures(RUN, groups, undefined);
  assert.match(first, /^prompt cached +2\.0 %/m);
  assert.doesNotMatch(first, noted);
  assert.match(formatFigures(RUN, figuresOf([cached(0, 384), cached(2, 384)], 1), undefined), noted);
  const unknown = figuresOf([cached(0, 384), cached(2, null)], 1);
  assert.equal(unknown.at(-1)?.cached_share, null);
  assert.match(formatFigures(RUN, unknown, undefined), /^prompt cached +not told/m);
  assert.doesNotMatch(formatFigures(RUN, unknown, undefined), noted);
  assert.equal(figuresOf([row(0)], 1).at(-1)?.cached_share, null, 'of a run from before it was told');
});

test('how long prompts were is told where something bounds it', () => {
  const groups = figuresOf([row(0)], 1);
  const { model, settings } = RUN;
  const shown = (advised: number, asked: number): string =>
    formatFigures(
      { ...RUN, model: { ...model, infill_prompt_tokens: advised }, settings: { ...settings, prompt_tokens: asked } },
      groups,
      undefined,
    );
  assert.doesNotMatch(shown(0, 0), /prompts/);
  assert.match(shown(448, 0), /, prompts of 448 tokens as the model advises; 95 %/);
  assert.match(shown(448, 320), /, prompts of at most 320 tokens; 95 %/);
});

test('JSON is one document on one line, in four digits after the point', () => {
  const rows = [row(0, { edit_similarity: 1 / 3 }), row(2), row(4)];
  const earlier = { run: RUN, rows: rows.map((one) => ({ ...one, edit_similarity: 0.123456 })) };
  const later = { run: RUN, rows };
  const text = evaluationAsJson(RUN, figuresOf(rows, 1), compareRuns(earlier, later));
  assert.equal(text.indexOf('\n'), text.length - 1);
  const told = JSON.parse(text);
  assert.equal(told.figures.at(-1).metrics.edit_similarity.value, 0.4444);
  assert.deepEqual(Object.keys(told.comparison), [
    ...['earlier', 'pairs', 'only_earlier', 'only_later', 'settings', 'times', 'differences'],
  ]);
  const { metric, change, ...rest } = told.comparison.differences[1];
  assert.deepEqual([metric, change.value, change.n], ['edit_similarity', 0.321, 3]);
  assert.deepEqual(rest, { rose: 3, fell: 0, verdict: 'better', earlier: 0.1235, later: 0.4444, p: null });
  assert.ok(!/\.\d{5}/.test(text.replaceAll(/"[^"]*"/g, '""')), text);
});

test('limits name a figure and a value', () => {
  const demands = demandsOf(['exact=0.5', 'parses=1'], false, undefined);
  const all = figuresOf([row(0, { exact: true }), row(1)], 1).at(-1);
  assert.deepEqual(failedDemands(demands, all, null), []);
  assert.deepEqual(failedDemands(demandsOf(['exact=0.6'], false, undefined), all, null), ['exact is 0.500, below 0.6']);
  for (const wrong of ['exact', 'exact=', 'exact=2', 'exact=0.5=1', 'speed=1'])
    assert.throws(
      () => demandsOf([wrong], false, undefined),
      /--fail-below: expected METRIC=VALUE with a METRIC of exact, /,
    );
  assert.throws(() => demandsOf([], true, undefined), /--fail-on-regression: expected --compare FILE beside it/);
});

test('the time that is left goes by the pace so far', () => {
  assert.equal(timeLeft(10, 30, 5000), '15 s');
  assert.equal(timeLeft(100, 100, 180_000), '3 min');
});

test('a run is read again; other files are refused with their place', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-eval-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'run.jsonl');
  const evaluation = { run: RUN, rows: [row(0), failed(1, 'INTERNAL')] };
  writeFileSync(file, linesOf(evaluation));
  assert.deepEqual(await readEvaluation(file), evaluation);
  const refuses = async (text: string, what: RegExp): Promise<void> => {
    writeFileSync(file, text);
    await assert.rejects(readEvaluation(file), what);
  };
  await refuses('', /run\.jsonl is empty; expected what --out has written/);
  await refuses(
    '{"format":"other"}\n',
    /run\.jsonl:1: format: .*; expected a file that "quern eval infill --out" wrote/,
  );
  await refuses(`${JSON.stringify(RUN)}\n{"id":1}\n`, /run\.jsonl:2: id: /);
  await refuses(linesOf(evaluation).slice(0, -20), /run\.jsonl:3: /);
  await assert.rejects(readEvaluation(join(folder, 'none')), /none cannot be read \(ENOENT\)/);
  const partial = { ...evaluation, run: { ...RUN, partial: true as const } };
  writeFileSync(file, linesOf(partial).slice(0, -20));
  assert.deepEqual(
    (await readEvaluation(file)).rows,
    [row(0)],
    'of a run that was killed, the row that was cut is left out',
  );
});
