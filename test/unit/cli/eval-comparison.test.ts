/** Two runs beside one another: pairs, verdicts, and what cannot be compared. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Comparison, checkComparable, compareRuns } from '../../../services/cli/eval/comparison.ts';
import { failedDemands } from '../../../services/cli/eval/demands.ts';
import { mcNemar, pairedDifference } from '../../../services/cli/eval/intervals.ts';
import { formatComparison } from '../../../services/cli/eval/print.ts';
import type { Row } from '../../../services/cli/eval/result.ts';
import { failed, RUN, row } from './support/eval-rows.ts';

const ids = Array.from({ length: 20 }, (_, id) => id);
const compared = (earlier: Row[], later: Row[]): Comparison => {
  const found = compareRuns({ run: RUN, rows: earlier }, { run: RUN, rows: later });
  assert.ok(found);
  return found;
};
const NO_REGRESSION = { atLeast: [], noRegression: true };

test('two runs are compared over the holes that both answered', () => {
  const earlier = [
    ...ids.map((id) => row(id, { exact: id < 2, edit_similarity: 0.4 })),
    ...[row(90), failed(91, 'INTERNAL')],
  ];
  const later = [
    ...ids.map((id) => row(id, { exact: id >= 1 && id < 12, edit_similarity: 0.6 + (id % 2) / 10 })),
    row(91),
  ];
  const found = compared(earlier, later);
  assert.deepEqual([found.pairs, found.only_earlier, found.only_later], [20, 1, 1]);
  const of = (name: string) => found.differences.find(({ metric }) => metric === name)!;
  const exact = of('exact');
  assert.deepEqual([exact.earlier, exact.later, exact.change.value], [0.1, 0.55, 0.45]);
  assert.deepEqual([exact.rose, exact.fell, exact.p], [10, 1, mcNemar(10, 1)]);
  assert.deepEqual(exact.change, pairedDifference({ both: 1, gained: 10, lost: 1, neither: 8 }));
  assert.deepEqual([exact.verdict, of('edit_similarity').verdict], ['better', 'better']);
  const text = formatComparison(RUN, found);
  assert.match(text, /\n20 holes answered in both; left out: 1 only in the earlier run and 1 only in the later\n/);
  assert.match(text, /exact match +0\.100 +0\.550 +\+0\.450 \[.*\] +10, 1 +0\.012 +better/);
  const back = compared(later, earlier);
  assert.deepEqual(
    failedDemands(NO_REGRESSION, undefined, back).map((line) => line.split(' ')[0]),
    ['exact', 'edit_similarity'],
  );
  assert.deepEqual(failedDemands(NO_REGRESSION, undefined, found), []);
});

test('times are compared where the prefix cache had as much in both runs, else it is said why not', () => {
  const rows = (share: number | null, ms: number): Row[] =>
    ids.map((id) =>
      row(id, { latency_ms: ms, prompt_tokens: 400, cached_tokens: share === null ? null : Math.round(400 * share) }),
    );
  const told = (was: number | null, is: number | null): string =>
    formatComparison(RUN, compared(rows(was, 200), rows(is, 50)));
  const line = 'ms, p50 and p95: 200, 200 then, 50, 50 now';
  const shares = "of the prompts' tokens";
  assert(told(0.01, 0.04).endsWith(`${line} (${shares} 1.0 % were in the prefix cache then, 4.0 % now)\n`));
  const not = `${line}: not to be compared, ${shares}`;
  assert(told(0.01, 0.95).endsWith(`${not} 1.0 % were in the prefix cache then, 95.0 % now\n`));
  assert(told(null, 0.01).endsWith(`${not} not told were in the prefix cache then, 1.0 % now\n`));
});

test('no difference is something else than too few holes to tell', () => {
  const before = ids.map((id) => row(id));
  const same = compared(before, before);
  assert.deepEqual(new Set(same.differences.map(({ verdict }) => verdict)), new Set(['same']));
  const text = formatComparison(RUN, same);
  assert.match(text, /\n20 holes answered in both\nno figure of any hole changed\n/);
  assert.equal(text.match(/no difference$/gm)?.length, 5);
  assert.deepEqual(failedDemands(NO_REGRESSION, undefined, same), []);
  const after = ids.map((id) => row(id, { exact: id === 3, edit_similarity: id === 3 ? 0.9 : id === 4 ? 0.2 : 0.5 }));
  const few = compared(before, after);
  const verdicts = Object.fromEntries(few.differences.map(({ metric, verdict }) => [metric, verdict]));
  assert.deepEqual([verdicts.exact, verdicts.edit_similarity, verdicts.parses], ['unclear', 'unclear', 'same']);
  assert.match(formatComparison(RUN, few), /exact match .* too few to tell\nedit similarity .* too few to tell\n/);
  assert.doesNotMatch(formatComparison(RUN, few), /no figure of any hole changed/);
});

test('runs without a common hole are refused; other settings are told, and refused where a step back counts', () => {
  const earlier = { run: RUN, rows: [row(0), failed(1, 'INTERNAL')] };
  const { settings } = RUN;
  const all = checkComparable(earlier, { settings, ids: ['hole0', 'hole1', 'hole2'] }, true);
  assert.deepEqual(all, { common: 1, changes: [] });
  const other = { ...settings, seed: 2, sources_hash: 'd' };
  assert.throws(
    () => checkComparable(earlier, { settings: other, ids: ['hole1'] }, false),
    /no answered hole in common \(line holes with seed 1 and line holes with seed 2, of other files\)/,
  );
  assert.equal(compareRuns(earlier, { run: RUN, rows: [row(1)] }), null);
  const fewer = { ...settings, lines_before: 25, concurrency: 8 };
  const changes = [{ name: 'lines_before', earlier: 255, later: 25 }];
  assert.deepEqual(checkComparable(earlier, { settings: fewer, ids: ['hole0'] }, false), { common: 1, changes });
  assert.throws(
    () => checkComparable(earlier, { settings: fewer, ids: ['hole0'] }, true),
    /--fail-on-regression: expected runs of the same settings, got lines_before 255 then, 25 now: /,
  );
  const found = compareRuns(earlier, { run: { ...RUN, settings: fewer }, rows: [row(0)] });
  assert.deepEqual(found?.settings, changes);
  assert.match(formatComparison(RUN, found!), /\nother settings: lines_before 255 then, 25 now\n/);
});
