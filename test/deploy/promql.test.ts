import assert from 'node:assert/strict';
import { test } from 'node:test';
import { groupingOf, metricsOf } from './promql.ts';

test('metric names and their labels, and nothing else', () => {
  const names = (expr: string): string[] => metricsOf(expr).map(({ name }) => name);
  assert.deepEqual(names('sum by (a, b) (rate(m_total{x="y{z}",k!~"q"}[5m])) / on (c) n'), ['m_total', 'n']);
  assert.deepEqual(names('histogram_quantile(0.95, sum by (le) (rate(h_bucket[$__rate_interval]))) > 2'), ['h_bucket']);
  assert.deepEqual(names('a:b:c > (14.4 * 0.01) and vllm:d{} offset 1d > 1e9 or vector(0)'), ['a:b:c', 'vllm:d']);
  assert.deepEqual(names('x - ignoring (kind) y'), ['x', 'y']);
  assert.deepEqual(metricsOf('m{a="1", b=~"2"}'), [{ name: 'm', labels: ['a', 'b'] }]);
  assert.deepEqual(groupingOf('sum by (le, m) (x) / on () y'), ['le', 'm']);
});
