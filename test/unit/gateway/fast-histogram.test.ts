import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FastHistogram } from '../../../services/gateway/fast-histogram.ts';

test('renders what prom-client would: cumulative buckets, sum and count per label set', () => {
  const histogram = new FastHistogram('quern_test_seconds', 'A test', [0.1, 1, 10]);
  const observe = histogram.series('model="m"');
  for (const value of [0.05, 0.1, 0.5, 11]) observe(value);
  histogram.series('model="m"')(1);
  histogram.series('model="n"')(2);
  assert.equal(
    histogram.render(),
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
