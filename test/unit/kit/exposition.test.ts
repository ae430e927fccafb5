import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Family, formatFor, formatLabels, renderFamilies } from '#kit/exposition.ts';

const COUNTER: Family = {
  name: 'quern_calls_total',
  help: 'Calls "in all"\nover \\ time',
  type: 'counter',
  samples: [{ name: 'quern_calls_total', labels: 'code="OK"', value: 2 }],
};
const HISTOGRAM: Family = {
  name: 'quern_wait_seconds',
  help: 'h',
  type: 'histogram',
  samples: [
    {
      name: 'quern_wait_seconds_bucket',
      labels: 'le="+Inf"',
      value: 1,
      exemplar: { traceId: 'a1', spanId: 'b2', value: 0.25, unixMs: 1_700_000_000_123 },
    },
    { name: 'quern_wait_seconds_sum', labels: '', value: Number.POSITIVE_INFINITY },
  ],
};

test("Prometheus's own format: no exemplars, counters with their whole name", () => {
  assert.equal(
    renderFamilies([COUNTER, HISTOGRAM], 'service="t"', 'prometheus'),
    `# HELP quern_calls_total Calls "in all"\\nover \\\\ time
# TYPE quern_calls_total counter
quern_calls_total{code="OK",service="t"} 2
# HELP quern_wait_seconds h
# TYPE quern_wait_seconds histogram
quern_wait_seconds_bucket{le="+Inf",service="t"} 1
quern_wait_seconds_sum{service="t"} +Inf
`,
  );
});

test('OpenMetrics: exemplars, counter families without _total, an end mark', () => {
  assert.equal(
    renderFamilies([COUNTER, HISTOGRAM], '', 'openmetrics'),
    `# HELP quern_calls Calls \\"in all\\"\\nover \\\\ time
# TYPE quern_calls counter
quern_calls_total{code="OK"} 2
# HELP quern_wait_seconds h
# TYPE quern_wait_seconds histogram
quern_wait_seconds_bucket{le="+Inf"} 1 # {trace_id="a1",span_id="b2"} 0.25 1700000000.123
quern_wait_seconds_sum +Inf
# EOF
`,
  );
});

test('the format follows the Accept header', () => {
  assert.equal(formatFor(undefined), 'prometheus');
  assert.equal(formatFor('text/plain;version=0.0.4;q=0.5,*/*;q=0.1'), 'prometheus');
  assert.equal(formatFor('application/openmetrics-text;version=1.0.0,text/plain;q=0.5'), 'openmetrics');
});

test('label values are escaped and empty ones left out', () => {
  assert.equal(formatLabels({ a: 'x"y\\z\n', b: '', c: 3 }), 'a="x\\"y\\\\z\\n",c="3"');
});
