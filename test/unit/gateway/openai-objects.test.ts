import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TextLogprobs, TopLogprob } from '#gen/quern/gateway/v1/gateway.ts';
import { promptLogprobsObject, stopReason } from '../../../services/gateway/http/openai-objects.ts';

function top(tokenId: number, token: string, rank: number): TopLogprob {
  return { tokenId, token, bytes: Buffer.from(token), logprob: -rank, rank };
}

function entry(one: TopLogprob, alternatives: TopLogprob[]): TextLogprobs {
  return { ...one, top: alternatives, textOffset: 0 };
}

test('prompt_logprobs: a token outside the alternatives has its own rank, one among them stands once', () => {
  const alternatives = [top(5, 'a', 1), top(9, 'b', 2)];
  const first = { ...entry(top(1, 'x', 1), []), logprob: undefined, rank: undefined };
  const [none, outside, inside] = promptLogprobsObject([
    first,
    entry(top(700, 'c', 345), alternatives),
    entry(top(9, 'b', 2), alternatives),
  ]);
  assert.equal(none, null);
  assert.deepEqual(outside, {
    5: { logprob: -1, rank: 1, decoded_token: 'a' },
    9: { logprob: -2, rank: 2, decoded_token: 'b' },
    700: { logprob: -345, rank: 345, decoded_token: 'c' },
  });
  assert.deepEqual(inside, {
    5: { logprob: -1, rank: 1, decoded_token: 'a' },
    9: { logprob: -2, rank: 2, decoded_token: 'b' },
  });
});

test('stop_reason: the string before the id, id 0 is one, null for none', () => {
  assert.equal(stopReason('END', 7), 'END');
  assert.equal(stopReason('', 0), 0);
  assert.equal(stopReason('', null), null);
  assert.equal(stopReason('', undefined), null);
});
