import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RequestEnd } from '#gen/quern/gateway/v1/gateway.ts';
import { paceText } from '../../../services/cli/pace.ts';
import { describeEnd } from '../../../services/cli/timings.ts';

test('a pace is told from eight tokens and 50 ms on', () => {
  assert.deepEqual(
    [paceText(8, 50), paceText(101, 1000), paceText(7, 900), paceText(200, 49.9)],
    ['140 tok/s', '100 tok/s', '', ''],
  );
});

test('times that nobody measured are not shown as 0', () => {
  const end = RequestEnd.decode(new Uint8Array(0));
  const usage = { promptTokens: 5, cachedTokens: 0, completionTokens: 11 };
  const timings = {
    queueNs: 0n,
    prefillNs: 9_000_000n,
    decodeNs: 100_000_000n,
    prefillChunks: 1,
    preemptions: 0,
    decodeSteps: 10,
    receivedUnixNs: 0n,
  };
  const ended = { ...end, requestId: 'r', usage };
  assert.equal(
    describeEnd({ ...ended, timings }, 12, 'cut at the token limit'),
    '[11 tokens in 109 ms (queue 0, prefill 9, decode 100; 100 tok/s), first token after 12 ms; ' +
      '0 of 5 prompt tokens cached; cut at the token limit; request r]',
  );
  const one = { ...ended, usage: { promptTokens: 1, cachedTokens: 0, completionTokens: 1 } };
  const atOnce = { ...timings, prefillNs: 1_234_000_000n, decodeNs: 0n };
  assert.equal(
    describeEnd({ ...one, timings: atOnce }, 1240, 'ended by the model'),
    '[1 token in 1234 ms (queue 0, prefill 1234, decode 0), first token after 1240 ms; 0 of 1 prompt token cached; ' +
      'ended by the model; request r]',
  );
  assert.equal(describeEnd(ended, undefined, ''), '[11 tokens; 0 of 5 prompt tokens cached; request r]');
});
