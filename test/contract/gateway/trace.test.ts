// One trace from the caller's header to the engine's submit.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SpanRecord } from '#kit/trace.ts';
import { eventually, startMesh } from './fakes/mesh.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';

test('caller, HTTP request, generation and engine share one trace, each below the one before', async (t) => {
  const spans: SpanRecord[] = [];
  const mesh = await startMesh(t, { spans: { record: (span) => spans.push(span) } });
  const headers = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` };
  const body = JSON.stringify({ messages: [{ role: 'user', content: 'a secret' }], max_tokens: 3, temperature: 0 });
  await (await fetch(`${mesh.url}/v1/chat/completions`, { method: 'POST', body, headers })).text();
  await eventually(() => spans.length === 2, 'both spans ended');
  const [generation, http] = spans as [SpanRecord, SpanRecord];
  assert.deepEqual(
    [http.name, http.kind, http.parentSpanId],
    ['POST /v1/chat/completions', 'server', '00f067aa0ba902b7'],
  );
  assert.deepEqual([generation.name, generation.parentSpanId], ['chat mock', http.context.spanId]);
  assert.equal(mesh.engine.requests[0]?.traceparent, `00-${TRACE}-${generation.context.spanId}-01`);
  assert.deepEqual(
    generation.events.map((event) => event.name),
    ['first_token'],
  );
  assert.equal(generation.attributes['gen_ai.usage.output_tokens'], 3);
  assert.equal(generation.attributes['gen_ai.response.finish_reasons'], 'length');
  assert.equal(JSON.stringify(spans, (_, v) => (typeof v === 'bigint' ? String(v) : v)).includes('secret'), false);
});
