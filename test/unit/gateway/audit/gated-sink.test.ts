import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { QuernError } from '#kit/errors.ts';
import { GatedSink } from '../../../../services/gateway/audit/gated-sink.ts';
import type { GenerationEnd, GenerationSink } from '../../../../services/gateway/generation-events.ts';

function recording(writable: () => boolean = () => true) {
  const heard: string[] = [];
  const sink: GenerationSink = {
    accepted: ({ requestId }) => void heard.push(`accepted ${requestId}`),
    promptLogprobs: (entries) => void heard.push(`logprobs ${entries.length}`),
    delta(choice, text) {
      heard.push(`delta ${choice} ${text}`);
      return writable();
    },
    choiceFinished: (choice) => void heard.push(`finished ${choice}`),
    end: () => void heard.push('end'),
    fail: ({ code }) => void heard.push(`fail ${code}`),
  };
  return { sink, heard };
}

const accepted = { requestId: 'r', model: 'm', traceId: '', promptTokenIds: [] };
const STOP = FinishReason.FINISH_REASON_STOP;
const end = {} as GenerationEnd;

test('nothing passes before it is opened, then all in order, then everything at once', () => {
  const { sink, heard } = recording();
  const gated = new GatedSink(sink);
  gated.accepted(accepted);
  gated.promptLogprobs([]);
  assert.equal(gated.delta(0, 'é', [], []), false, 'its sender merges what comes next');
  gated.choiceFinished(0, STOP, '', null, false);
  assert.deepEqual(heard, []);
  assert.equal(gated.open(), true);
  assert.deepEqual(heard, ['accepted r', 'logprobs 0', 'delta 0 é', 'finished 0']);
  assert.equal(gated.delta(1, 'x', [], []), true);
  gated.end(end);
  assert.deepEqual(heard.slice(4), ['delta 1 x', 'end']);
  assert.equal(gated.textBytes, 3, 'bytes, not characters');
});

test('a client that is behind when it opens is waited for, whichever choice it was', () => {
  const answers = [false, true];
  const { sink } = recording(() => answers.shift() ?? true);
  const gated = new GatedSink(sink);
  gated.delta(0, 'a', [], []);
  gated.delta(1, 'b', [], []);
  assert.equal(gated.open(), false);
});

test('a refusal passes a closed gate and nothing of the answer follows it', () => {
  const { sink, heard } = recording();
  const gated = new GatedSink(sink);
  gated.accepted(accepted);
  gated.delta(0, 'secret', [], []);
  gated.fail(new QuernError('UNAVAILABLE', 'no'));
  gated.open();
  assert.deepEqual(heard, ['fail UNAVAILABLE']);
});

test('as much of the answer as was asked for is collected, whatever passes', () => {
  const { sink, heard } = recording();
  const gated = new GatedSink(sink, 7);
  gated.delta(0, 'abc', [], []);
  gated.delta(1, 'de', [], []);
  gated.open();
  gated.delta(0, 'fghi', [], []);
  gated.delta(1, 'more', [], []);
  assert.equal(gated.text, 'abcfg\nde');
  assert.deepEqual(heard, ['delta 0 abc', 'delta 1 de', 'delta 0 fghi', 'delta 1 more']);
  const plain = new GatedSink(sink);
  plain.delta(0, 'abc', [], []);
  assert.deepEqual([plain.text, plain.textBytes], ['', 3]);
});
