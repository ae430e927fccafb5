import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { Choice } from '../../../services/gateway/choice.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import { Vocabulary } from '../../../services/gateway/vocabulary.ts';

const EOS = 256;
const STOP_ID = 0x41;
const pieces = [
  ...Array.from({ length: 256 }, (_, i) => ({ bytes: Buffer.from([i]), special: false, added: false, unused: false })),
  { bytes: Buffer.from('<|end|>'), special: true, added: true, unused: false },
];
const header = { contentHash: 'x', size: pieces.length, eosTokenIds: [EOS], chatTemplateHash: '', fimFamily: '' };
const vocabulary = new Vocabulary(header, pieces);

function choice(stopStrings: string[] = []): Choice {
  const stopTokenIds = new Set([STOP_ID, EOS]);
  const options = {
    vocabulary,
    stopStrings,
    stopTokenIds,
    minTokens: 0,
    logprobs: false,
    tokenIds: true,
    textOffset: 0,
  };
  return new Choice(options, null, [EOS]);
}

const ids = (text: string): number[] => [...Buffer.from(text)];

test('the id that ended a choice is one of its tokens, counts once, and writes nothing', () => {
  const ended = choice();
  ended.push([...ids('hi'), STOP_ID], []);
  ended.finish(FinishReason.FINISH_REASON_STOP, STOP_ID);
  assert.equal(ended.tokenCount, 3);
  assert.equal(ended.stopTokenId, STOP_ID);
  assert.deepEqual(ended.take(), { text: 'hi', logprobs: [], tokenIds: [...ids('hi'), STOP_ID] });
});

test('the end of the model itself and a stop string name no stop token', () => {
  const eos = choice();
  eos.push([...ids('hi'), EOS], []);
  eos.finish(FinishReason.FINISH_REASON_STOP, EOS);
  assert.deepEqual([eos.tokenCount, eos.stopTokenId, eos.stopString], [3, null, '']);
  const cut = choice(['i']);
  cut.push([...ids('hi'), STOP_ID], []);
  cut.finish(FinishReason.FINISH_REASON_STOP, STOP_ID);
  assert.deepEqual([cut.tokenCount, cut.stopTokenId, cut.stopString], [2, null, 'i']);
});

test('after a lost engine: a stop id or max_tokens says that nothing is missing', () => {
  const sampling = { ...emptySampling(), maxTokens: 4 };
  const finished = (tokens: number[]): [FinishReason | null, number | null] => {
    const one = choice();
    one.push(tokens, []);
    one.finishIfComplete(sampling);
    return [one.finished, one.stopTokenId];
  };
  assert.deepEqual(finished(ids('abc')), [null, null]);
  assert.deepEqual(finished(ids('abcd')), [FinishReason.FINISH_REASON_LENGTH, null]);
  assert.deepEqual(finished([...ids('ab'), STOP_ID]), [FinishReason.FINISH_REASON_STOP, STOP_ID]);
  assert.deepEqual(finished([...ids('ab'), EOS]), [FinishReason.FINISH_REASON_STOP, null]);
});
