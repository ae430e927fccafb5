import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderFamilies } from '#kit/exposition.ts';
import { Histogram } from '#kit/histogram.ts';

const TRACE = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: true };

test('cumulative buckets, sum and count per label set', () => {
  const histogram = new Histogram({
    name: 'quern_test_seconds',
    help: 'A test',
    labels: ['model'],
    buckets: [0.1, 1, 10],
  });
  const observe = histogram.series({ model: 'm' });
  for (const value of [0.05, 0.1, 0.5, 11]) observe(value);
  histogram.observe(1, { model: 'm' });
  histogram.observe(2, { model: 'n' });
  assert.equal(
    renderFamilies([histogram.family()], '', 'prometheus'),
    `# HELP quern_test_seconds A test
# TYPE quern_test_seconds histogram
quern_test_seconds_bucket{le="0.1",model="m"} 2
quern_test_seconds_bucket{le="1",model="m"} 4
quern_test_seconds_bucket{le="10",model="m"} 4
quern_test_seconds_bucket{le="+Inf",model="m"} 5
quern_test_seconds_sum{model="m"} 12.65
quern_test_seconds_count{model="m"} 5
quern_test_seconds_bucket{le="0.1",model="n"} 0
quern_test_seconds_bucket{le="1",model="n"} 0
quern_test_seconds_bucket{le="10",model="n"} 1
quern_test_seconds_bucket{le="+Inf",model="n"} 1
quern_test_seconds_sum{model="n"} 2
quern_test_seconds_count{model="n"} 1
`,
  );
});

test('each bucket keeps the newest sampled trace', () => {
  const histogram = new Histogram({ name: 'quern_test_seconds', help: 'h', buckets: [1] });
  histogram.observe(0.2, {}, { ...TRACE, traceId: '0'.repeat(32) });
  histogram.observe(0.5, {}, TRACE);
  histogram.observe(0.7, {}, { ...TRACE, traceId: 'c'.repeat(32), sampled: false });
  histogram.observe(3, {}, null);
  const [low, high] = histogram.family().samples;
  assert.equal(low?.value, 3);
  assert.deepEqual(
    { ...low?.exemplar, unixMs: 0 },
    { traceId: TRACE.traceId, spanId: TRACE.spanId, value: 0.5, unixMs: 0 },
  );
  assert.equal(high?.exemplar, null);
});
