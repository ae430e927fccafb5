import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GatewayContext } from '../../../../services/gateway/context.ts';
import { validate } from '../../../../services/gateway/http/body.ts';
import type { Exchange } from '../../../../services/gateway/http/exchange.ts';
import { infillRequest, infillSchema } from '../../../../services/gateway/http/infill-request.ts';

const context = { models: { all: () => [{ name: 'm' }] } } as unknown as GatewayContext;
const exchange = { request: { headers: {} }, requestId: 'of-the-head' } as unknown as Exchange;

function read(over: object) {
  const body = validate(infillSchema, { input_prefix: 'a = ', input_suffix: '\n', ...over });
  return infillRequest(body, exchange, context);
}

test('the two limits of time are apart: from arrival, and from the first token; none holds while only the cache is warmed', () => {
  const both = { t_max_predict_ms: 250, soft_deadline_ms: 900 };
  const limits = (over: object) => {
    const { softDeadlineMs, lineDeadlineMs } = read(over);
    return [softDeadlineMs, lineDeadlineMs];
  };
  assert.deepEqual(limits(both), [900, 250]);
  assert.deepEqual(limits({ t_max_predict_ms: 250 }), [null, 250]);
  assert.deepEqual(limits({ soft_deadline_ms: 900, t_max_predict_ms: 0 }), [900, undefined]);
  assert.deepEqual(limits({}), [null, undefined]);
  assert.deepEqual(limits({ ...both, n_predict: 0 }), [null, undefined]);
});

test('n_predict is a bound and not a demand; 0 is for the cache alone, without choices', () => {
  const length = (over: object) => {
    const { sampling, completionTokensMax } = read(over);
    return [sampling.maxTokens, completionTokensMax];
  };
  assert.deepEqual(length({ n_predict: 5_000 }), [undefined, 5_000]);
  assert.deepEqual(length({}), [undefined, 64]);
  assert.deepEqual(length({ n_predict: -1 }), [undefined, undefined]);
  assert.deepEqual(length({ n_predict: 0 }), [0, undefined]);
  assert.equal(read({ n_predict: 0, n_cmpl: 3 }).sampling.n, 1);
});

test('where the file lies and what it is reach the prompt; the cursor line belongs to the prefix', () => {
  const { prompt, requestId } = read({ prompt: '1', path: 'src/a.py', repository: 'org/p' });
  assert.deepEqual(prompt, {
    ...{ kind: 'infill', prefix: 'a = 1', suffix: '\n', path: 'src/a.py', repository: 'org/p', chunks: [] },
  });
  assert.equal(requestId, 'of-the-head');
  assert.equal(read({ request_id: 'mine' }).requestId, 'mine');
});
