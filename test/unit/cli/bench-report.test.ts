import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatReport, percentile, type Sample, summarize, tpot } from '../../../services/cli/bench/report.ts';
import { SCENARIOS } from '../../../services/cli/bench/scenarios.ts';

const sample = (over: Partial<Sample>): Sample => ({
  ok: true,
  ttftMs: 10,
  e2elMs: 110,
  itlsMs: [10, 20],
  promptTokens: 5,
  cachedTokens: 0,
  outputTokens: 11,
  ...over,
});

test('percentiles interpolate between the two nearest ranks', () => {
  assert.equal(percentile([], 50), 0);
  assert.equal(percentile([3, 1, 2], 50), 2);
  assert.equal(percentile([1, 2], 50), 1.5);
  assert.equal(percentile([1, 2, 3, 4, 5], 100), 5);
});

test('TPOT leaves the first token out, as vLLM does', () => {
  assert.equal(tpot(sample({})), 10);
  assert.equal(tpot(sample({ outputTokens: 1 })), undefined);
});

test('a report counts failures apart and goodput by both limits', () => {
  const samples = [sample({}), sample({ ttftMs: 900, e2elMs: 1000 }), sample({ ok: false })];
  const report = summarize(samples, 2, { ttftMs: 500, tpotMs: 25 });
  assert.equal(report.completed, 2);
  assert.equal(report.failed, 1);
  assert.equal(report.request_throughput, 1);
  assert.equal(report.request_goodput, 0.5);
  assert.equal(report.total_output_tokens, 22);
  assert.equal(report.median_itl_ms, 15);
});

test('scenarios send the same bytes in every run and differ by index', () => {
  for (const scenario of Object.values(SCENARIOS)) {
    assert.deepEqual(scenario.request(3, []), scenario.request(3, []));
    assert.notDeepEqual(scenario.request(3, []), scenario.request(4, []));
  }
});

test('spread is the standard deviation of the population, as vLLM computes it', () => {
  const samples = [sample({ ttftMs: 10 }), sample({ ttftMs: 30 })];
  const report = summarize(samples, 1, { ttftMs: 500, tpotMs: 25 });
  assert.equal(report.mean_ttft_ms, 20);
  assert.equal(report.std_ttft_ms, 10);
});

test('when nothing completed, only the counts are printed', () => {
  const text = formatReport(summarize([sample({ ok: false })], 2, { ttftMs: 500, tpotMs: 25 }));
  assert.match(text, /completed +0\n +failed +1\n +duration +2\n$/);
  assert.doesNotMatch(text, /ttft/);
});
