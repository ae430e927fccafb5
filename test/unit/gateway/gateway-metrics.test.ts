import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics } from '#kit/metrics.ts';
import { createGatewayMetrics, type FinishedRequest } from '../../../services/gateway/gateway-metrics.ts';

const REQUEST: FinishedRequest = {
  model: 'm',
  method: 'infill',
  tenant: 'acme',
  outcome: 'stop',
  error: null,
  seconds: 0.3,
  decodeSeconds: 0.18,
  choices: 2,
  promptTokens: 100,
  cachedTokens: 64,
  completionTokens: 20,
  trace: { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: true },
};

const COMPLETION = 'gen_ai_request_model="m",gen_ai_operation_name="text_completion"';

async function after(...requests: Partial<FinishedRequest>[]): Promise<string> {
  const gateway = createGatewayMetrics(createMetrics('gateway'));
  for (const request of requests) gateway.finished({ ...REQUEST, ...request });
  return gateway.render();
}

test('a request that ended well counts for its model, its tenant and the objectives', async () => {
  const text = await after({});
  for (const line of [
    'quern_gateway_requests_total{model="m",method="infill",outcome="stop",service="gateway"} 1',
    'quern_gateway_tokens_total{model="m",kind="cached",service="gateway"} 64',
    'quern_gateway_tenant_tokens_total{tenant="acme",kind="completion",service="gateway"} 20',
    'quern_gateway_tenant_request_seconds_total{tenant="acme",service="gateway"} 0.3',
    `gen_ai_server_request_duration_seconds_bucket{le="0.25",${COMPLETION},service="gateway"} 0`,
    `gen_ai_server_request_duration_seconds_bucket{le="0.35",${COMPLETION},service="gateway"} 1`,
    `gen_ai_client_token_usage_sum{${COMPLETION},gen_ai_token_type="input",service="gateway"} 100`,
    // 0.18 s over the 9 gaps of each of two choices
    'gen_ai_server_time_per_output_token_seconds_sum{gen_ai_request_model="m",service="gateway"} 0.02',
  ]) {
    assert.ok(text.includes(`${line}\n`), `${line}\n${text}`);
  }
  assert.doesNotMatch(text, /quern_gateway_tokens_wasted_total\{/);
});

test('tokens of what was given up or failed are wasted, and failures have an error type', async () => {
  const text = await after(
    { outcome: 'cancelled' },
    { outcome: 'superseded', completionTokens: 5 },
    { outcome: 'unavailable', error: 'UNAVAILABLE', completionTokens: 7 },
  );
  assert.match(text, /quern_gateway_tokens_wasted_total\{model="m",reason="cancelled",[^}]*\} 20\n/);
  assert.match(text, /quern_gateway_tokens_wasted_total\{model="m",reason="superseded",[^}]*\} 5\n/);
  assert.match(text, /quern_gateway_tokens_wasted_total\{model="m",reason="unavailable",[^}]*\} 7\n/);
  assert.match(text, /gen_ai_server_request_duration_seconds_count\{[^}]*error_type="UNAVAILABLE"[^}]*\} 1\n/);
  assert.match(text, /gen_ai_client_token_usage_count\{[^}]*gen_ai_token_type="output"[^}]*\} 2\n/);
});

test('what names tenants can be left out of a scrape', async () => {
  const gateway = createGatewayMetrics(createMetrics('gateway'));
  gateway.finished(REQUEST);
  assert.match((await gateway.scrape(undefined, { tenants: true })).text, /acme/);
  const { text } = await gateway.scrape(undefined, { tenants: false });
  assert.doesNotMatch(text, /acme|_tenant_/);
  assert.match(text, /quern_gateway_requests_total\{/);
});
