import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newTraceId, traceparentOf } from '../../../../clients/lsp/core/trace-id.ts';
import { extract } from '../../../../services/kit/trace.ts';

test('the header is what the mesh reads as this trace, sampled, with a span of its own each time', () => {
  const traceId = newTraceId();
  assert.notEqual(newTraceId(), traceId);
  const first = extract(traceparentOf(traceId));
  const second = extract(traceparentOf(traceId));
  assert.deepEqual([first?.traceId, first?.sampled], [traceId, true]);
  assert.equal(second?.traceId, traceId);
  assert.notEqual(first?.spanId, second?.spanId);
});
