import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { toStatusProto } from '#kit/rpc/status.ts';
import { engineRefusal } from '../../../services/gateway/engine-refusal.ts';

function refused(field: string, samplingPrefix: string): QuernError {
  const description = 'expected less, got more';
  const error = new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
  return engineRefusal(toStatusProto(error), samplingPrefix);
}

test("the engine's paths become the caller's", () => {
  const cases: [string, string, string][] = [
    ['request.sampling.stop_token_ids[0]', '', 'stop_token_ids[0]'],
    ['request.sampling.stop_token_ids[0]', 'sampling.', 'sampling.stop_token_ids[0]'],
    ['request.sampling.logit_bias[7]', '', 'logit_bias[7]'],
    ['request.token_ids[3]', 'sampling.', 'prompt[3]'],
    ['request.resume_token_ids', '', 'resume_token_ids'],
    ['request.supersede_key', 'sampling.', 'supersede_key'],
  ];
  for (const [path, prefix, wanted] of cases) {
    const error = refused(path, prefix);
    assert.equal(error.code, 'INVALID_ARGUMENT');
    assert.equal(error.message, `${wanted}: expected less, got more`);
    assert.deepEqual(error.details.fields, [{ field: wanted, description: 'expected less, got more' }]);
  }
});

test('what names no field of the engine stays, with reason and retry hint', () => {
  const message = 'too many; end another request. Then this.request.x works';
  const error = new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'QUEUE_FULL', retryAfterMs: 250 });
  const back = engineRefusal(toStatusProto(error), 'sampling.');
  assert.equal(back.message, message);
  assert.deepEqual(back.details, { reason: 'QUEUE_FULL', retryAfterMs: 250 });
});
