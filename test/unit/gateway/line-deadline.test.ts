import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { Choice } from '../../../services/gateway/choice.ts';
import { LineDeadline } from '../../../services/gateway/line-deadline.ts';
import { Vocabulary } from '../../../services/gateway/vocabulary.ts';

const pieces = Array.from({ length: 256 }, (_, i) => Buffer.from([i])).concat(Buffer.from(';\n    '));
const vocabulary = new Vocabulary(
  { contentHash: 'x', size: pieces.length, eosTokenIds: [], chatTemplateHash: '', fimFamily: '' },
  pieces.map((bytes) => ({ bytes, special: false, added: false, unused: false })),
);
const BREAK = 256;
const ids = (text: string): number[] => [...Buffer.from(text)];

/** A choice with a limit of 100 ms, and the hand that moves its clock. */
function limited(stopStrings: string[] = []) {
  const clock = { ms: 5_000 };
  const deadline = new LineDeadline(100, vocabulary, () => clock.ms);
  const plain = { minTokens: 0, logprobs: false, tokenIds: true, textOffset: 0 };
  const options = { vocabulary, stopStrings, stopTokenIds: new Set<number>(), ...plain };
  return { clock, choice: new Choice(options, null, [], null, deadline) };
}

test('time counts from the first token; once it is over, the text ends with the line under way', () => {
  const { clock, choice } = limited();
  clock.ms += 60_000; // waiting and reading the prompt
  choice.push(ids('a\nb'), []);
  clock.ms += 100;
  choice.push(ids('\nc'), []);
  assert.equal(choice.finished, null, 'not over yet');
  clock.ms += 1;
  choice.push(ids('d'), []);
  assert.equal(choice.finished, null, 'in the middle of a line');
  choice.push([...ids('e\nnext'), BREAK], []);
  assert.equal(choice.finished, FinishReason.FINISH_REASON_LENGTH);
  assert.equal(choice.take().text, 'a\nb\ncde\n');
  assert.equal(choice.tokenCount, 'a\nb\ncde\n'.length, 'what came with it counts nowhere');
});

test('a line break inside a token is one; a text of one line has all the time it takes', () => {
  const { clock, choice } = limited();
  choice.push(ids('x'), []);
  clock.ms += 10_000;
  choice.push(ids('y'.repeat(1_000)), []);
  assert.equal(choice.finished, null);
  choice.push([BREAK, ...ids('z')], []);
  assert.equal(choice.finished, FinishReason.FINISH_REASON_LENGTH);
  assert.match(choice.take().text, /^xy{1000};\n {4}$/);
});

test('a stop string that comes with the line end is what ended it', () => {
  const { clock, choice } = limited(['\n']);
  choice.push(ids('a'), []);
  clock.ms += 1_000;
  choice.push(ids('b\n'), []);
  assert.deepEqual([choice.finished, choice.stopString], [FinishReason.FINISH_REASON_STOP, '\n']);
  assert.equal(choice.take().text, 'ab');
});
