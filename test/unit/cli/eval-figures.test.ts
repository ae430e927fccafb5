/** Figures by language, differences of two runs, what a run is refused for, and the file between them. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { demandsOf, failedDemands } from '../../../services/cli/eval/demands.ts';
import { compareRows, figuresOf } from '../../../services/cli/eval/figures.ts';
import { mcNemar, proportion } from '../../../services/cli/eval/intervals.ts';
import { formatComparison, formatFigures } from '../../../services/cli/eval/print.ts';
import { newRun, type Row, readEvaluation, writeEvaluation } from '../../../services/cli/eval/result.ts';

const row = (id: number, over: Partial<Row> = {}): Row => ({
  ...{
    id: `hole${id}`,
    language: id % 2 ? 'go' : 'python',
    path: 'a',
    line: 1,
    failure: null,
    finish: 'stop',
    tokens: 5,
  },
  ...{
    exact: false,
    edit_similarity: 0.5,
    parses: true,
    parses_empty: false,
    identifier_exact: false,
    latency_ms: 10 * id,
  },
  ...{ identifier_precision: 0.5, identifier_recall: 0.25, identifier_f1: 1 / 3, ...over },
});

const failed = (id: number, failure: string): Row => ({
  ...row(id, {
    exact: null,
    edit_similarity: null,
    parses: null,
    parses_empty: null,
    identifier_exact: null,
    latency_ms: null,
  }),
  ...{ identifier_precision: null, identifier_recall: null, identifier_f1: null, tokens: null, failure, finish: '' },
});

const RUN = newRun({
  ...{ quern: '0.1.0', commit: '', at: '2026-11-22T04:00:00.000Z' },
  model: {
    ...{
      name: 'mini',
      hash: 'a',
      vocabulary: 'b',
      fim_family: 'qwen',
      prompt_order: 'psm',
      dtype: 'bf16',
      backend: 'cpu',
    },
    context_length: 2048,
  },
  settings: {
    ...{ kind: 'line', seed: 1, holes_wanted: 4, max_tokens: 64, temperature: 0, concurrency: 2, files: 2 },
    ...{ sources: 'the held-out set', sources_hash: 'c', lines_before: 255, lines_after: 64 },
  },
});

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
  const text = formatFigures(RUN, groups);
  assert.match(text, /^all +3 +0\.333 \[0\.061, 0\.792\] +0\.667 \[/m);
  assert.match(text, /1 of 4 holes had no answer \(1 RESOURCE_EXHAUSTED\); they are in no figure/);
});

test('two runs are compared over the holes that both answered', () => {
  const ids = Array.from({ length: 20 }, (_, id) => id);
  const earlier = [
    ...ids.map((id) => row(id, { exact: id < 2, edit_similarity: 0.4 })),
    row(90),
    failed(91, 'INTERNAL'),
  ];
  const later = [
    ...ids.map((id) => row(id, { exact: id >= 1 && id < 12, edit_similarity: 0.6 + (id % 2) / 10 })),
    row(91),
  ];
  const found = compareRows(earlier, later, 5);
  assert.deepEqual([found.pairs, found.onlyEarlier, found.onlyLater], [20, 1, 1]);
  const of = (name: string) => found.differences.find(({ metric }) => metric === name)!;
  const exact = of('exact');
  assert.deepEqual([exact.earlier, exact.later, exact.change.value], [0.1, 0.55, 0.45]);
  assert.equal(exact.p, mcNemar(10, 1));
  assert.equal(exact.verdict, 'better');
  assert.equal(of('edit_similarity').verdict, 'better');
  assert.equal(of('parses').verdict, 'unclear');
  assert.match(formatComparison(RUN, RUN, found), /exact match +0\.100 +0\.550 +\+0\.450 \[.*\] +0\.012 +better/);
  const back = compareRows(later, earlier, 5);
  assert.deepEqual(
    failedDemands({ atLeast: [], noRegression: true }, undefined, back).map((line) => line.split(' ')[0]),
    ['exact', 'edit_similarity'],
  );
  assert.deepEqual(failedDemands({ atLeast: [], noRegression: true }, undefined, found), []);
});

test('limits name a figure and a value', () => {
  const demands = demandsOf(['exact=0.5', 'parses=1'], false, undefined);
  const all = figuresOf([row(0, { exact: true }), row(1)], 1).at(-1);
  assert.deepEqual(failedDemands(demands, all, null), []);
  assert.deepEqual(failedDemands(demandsOf(['exact=0.6'], false, undefined), all, null), ['exact is 0.500, below 0.6']);
  for (const wrong of ['exact', 'exact=', 'exact=2', 'speed=1'])
    assert.throws(
      () => demandsOf([wrong], false, undefined),
      /--fail-below: expected METRIC=VALUE with a METRIC of exact, /,
    );
  assert.throws(() => demandsOf([], true, undefined), /--fail-on-regression: expected --compare FILE beside it/);
});

test('a run is stored and read again; other files are refused with their place', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-eval-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'run.jsonl');
  const rows = [row(0), failed(1, 'INTERNAL')];
  await writeEvaluation(file, { run: RUN, rows });
  assert.deepEqual(await readEvaluation(file), { run: RUN, rows });
  assert.equal(readFileSync(file, 'utf8').split('\n').length, 4);
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
  await assert.rejects(readEvaluation(join(folder, 'none')), /none cannot be read \(ENOENT\)/);
  await assert.rejects(writeEvaluation(folder, { run: RUN, rows }), /--out: .* cannot be written \(EISDIR\)/);
});
