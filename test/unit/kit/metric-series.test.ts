import assert from 'node:assert/strict';
import { test } from 'node:test';
import { METRIC_LABEL_VALUES_MAX, METRIC_SERIES_MAX } from '#kit/limits.ts';
import { MetricSeries } from '#kit/metric-series.ts';
import { createMetrics } from '#kit/metrics.ts';

test('label values beyond the bound are counted as "other"; known ones go on', () => {
  const series = new MetricSeries(['tenant', 'outcome'], () => ({ value: 0 }));
  for (let i = 0; i < METRIC_LABEL_VALUES_MAX + 50; i += 1) series.of({ tenant: `t${i}`, outcome: 'stop' }).value += 1;
  assert.equal(series.size, METRIC_LABEL_VALUES_MAX + 1);
  const other = [...series].find(({ labels }) => labels === 'tenant="other",outcome="stop"');
  assert.equal(other?.state.value, 50);
  series.of({ tenant: 't3', outcome: 'stop' }).value += 1;
  assert.equal(series.of({ tenant: 't3', outcome: 'stop' }).value, 2);
});

test('the series of one metric are bounded whatever the labels', () => {
  const series = new MetricSeries(['a', 'b'], () => ({ value: 0 }));
  const side = Math.ceil(Math.sqrt(METRIC_SERIES_MAX)) + 5;
  assert.ok(side < METRIC_LABEL_VALUES_MAX);
  for (let a = 0; a < side; a += 1) for (let b = 0; b < side; b += 1) series.of({ a, b }).value += 1;
  assert.equal(series.size, METRIC_SERIES_MAX + 1);
  assert.equal(series.of({ a: 'other', b: 'other' }).value, side * side - METRIC_SERIES_MAX);
});

test('an unknown label is a mistake in the code', () => {
  const series = new MetricSeries(['a'], () => ({ value: 0 }));
  assert.throws(() => series.of({ b: 1 }), /label "b"/);
});

test('a hostile flood of tenants does not grow a scrape without end', async () => {
  const metrics = createMetrics('t');
  const counter = metrics.counter({ name: 'quern_flood_total', help: 'h', labels: ['tenant'] });
  for (let i = 0; i < 10_000; i += 1) counter.inc({ tenant: `t${i}` });
  const [family] = await metrics.families();
  assert.equal(family?.samples.length, METRIC_LABEL_VALUES_MAX + 1);
  assert.equal(
    family?.samples.reduce((sum, sample) => sum + sample.value, 0),
    10_000,
  );
});
