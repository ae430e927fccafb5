import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  CompletionServiceService,
  InfillResponse,
  StreamChatResponse,
  StreamCompleteResponse,
} from '#gen/quern/gateway/v1/gateway.ts';
import { encodeTextDelta, withFastDeltas } from '../../../services/gateway/rpc/delta-encoding.ts';

test('bytes equal the generated encoder for all three stream messages', () => {
  fc.assert(
    fc.property(
      fc.nat(0xffff),
      fc.oneof(fc.string({ unit: 'grapheme' }), fc.string({ maxLength: 20_000 })),
      (index, text) => {
        const message = { event: { $case: 'delta' as const, value: { index, text, logprobs: [], tokenIds: [] } } };
        const mine = encodeTextDelta(index, text);
        for (const codec of [StreamCompleteResponse, InfillResponse, StreamChatResponse]) {
          assert.deepEqual(mine, Buffer.from(codec.encode(message).finish()));
        }
      },
    ),
  );
});

test('a delta with more than text, and every other event, takes the generated encoder', () => {
  const { responseSerialize, responseDeserialize } = withFastDeltas(CompletionServiceService.streamComplete);
  const messages: StreamCompleteResponse[] = [
    { event: { $case: 'delta', value: { index: 1, text: 'x', logprobs: [], tokenIds: [5, 300] } } },
    { event: { $case: 'accepted', value: { requestId: 'r', model: 'm', traceId: 't', promptTokenIds: [] } } },
    { event: { $case: 'delta', value: { index: 3, text: 'é😀', logprobs: [], tokenIds: [] } } },
    { event: undefined },
  ];
  for (const message of messages) assert.deepEqual(responseDeserialize(responseSerialize(message)), message);
});
