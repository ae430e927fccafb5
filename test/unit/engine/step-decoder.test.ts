import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeSteps } from '../../../services/engine/step-decoder.ts';

function bits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0] as number;
}

/** A record with its length word in front and, behind, a step in which the model did not run. */
function record(...words: number[]): number[] {
  return wholeRecord(...words, 0, 0);
}

function wholeRecord(...words: number[]): number[] {
  return [words.length + 1, ...words];
}

test('tokens with and without logprobs, of several steps in order', () => {
  const first = record(3, 4, 2, 0, 0, 7, 1, 500, 0, 8, 0, 501, 2, 501, bits(-0.5), 1, 9, bits(-2.25), 2);
  const second = record(1, 0, 1, 0, 0, 7, 1, 502, 0);
  const steps = decodeSteps(Uint32Array.from([...first, ...second]));
  assert.deepEqual(steps, [
    {
      running: 3,
      waiting: 4,
      tokens: [
        { id: 7, choice: 1, tokenId: 500, logprobs: null },
        {
          id: 8,
          choice: 0,
          tokenId: 501,
          logprobs: [
            { tokenId: 501, logprob: -0.5, rank: 1 },
            { tokenId: 9, logprob: -2.25, rank: 2 },
          ],
        },
      ],
      prompts: [],
      finished: [],
      run: null,
    },
    {
      running: 1,
      waiting: 0,
      tokens: [{ id: 7, choice: 1, tokenId: 502, logprobs: null }],
      prompts: [],
      finished: [],
      run: null,
    },
  ]);
});

test('prompt logprobs are split by position', () => {
  const words = record(1, 0, 0, 1, 0, 5, 2, 3, 1, 2, 10, bits(-1), 4, 11, bits(-2), 1, 12, bits(-3), 2);
  const [step] = decodeSteps(Uint32Array.from(words));
  assert.deepEqual(step?.prompts, [
    {
      id: 5,
      positions: [
        [{ tokenId: 10, logprob: -1, rank: 4 }],
        [
          { tokenId: 11, logprob: -2, rank: 1 },
          { tokenId: 12, logprob: -3, rank: 2 },
        ],
      ],
    },
  ]);
});

test('finished carries 64-bit numbers, choices and a UTF-8 message that does not fill its last word', () => {
  const message = new TextEncoder().encode('größer');
  const padded = new Uint8Array(8);
  padded.set(message);
  const text = [...new Uint32Array(padded.buffer)];
  const head = [42, 8, message.length, 0xffff_ffff, 0xffff_ffff, 10, 4, 3, 2, 1, 6];
  const times = [1, 2, 3, 0, 4, 0, 5, 0];
  const choices = [2, 0, 1, 1, 0, 1, 2, 0, 0];
  const [step] = decodeSteps(Uint32Array.from(record(0, 0, 0, 0, 1, ...head, ...times, ...choices, ...text)));
  assert.deepEqual(step?.finished, [
    {
      id: 42,
      statusCode: 8,
      message: 'größer',
      seed: 0xffff_ffff_ffff_ffffn,
      promptTokens: 10,
      cachedTokens: 4,
      completionTokens: 3,
      prefillChunks: 2,
      decodeSteps: 1,
      preemptions: 6,
      receivedUnixNs: (2n << 32n) | 1n,
      queueNs: 3n,
      prefillNs: 4n,
      decodeNs: 5n,
      choices: [
        { choice: 0, reason: 1, stopTokenId: 0 },
        { choice: 1, reason: 2, stopTokenId: null },
      ],
      preempted: [],
    },
  ]);
});

test('a step tells how the model ran and for whom, and an end when its choices had to wait again', () => {
  const end = [42, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  const run = [1, 5, 1, 7, 0, 32, 2, 9, 2, 42, 32, 0, 43, 1, 1];
  const preempted = [1, 0, 3, 0, 4, 1, 1];
  const [step] = decodeSteps(Uint32Array.from(wholeRecord(2, 0, 0, 0, 1, ...end, ...run, ...preempted)));
  const { slices, ...numbers } = step?.run ?? { slices: null };
  assert.deepEqual(numbers, {
    beginUnixNs: (1n << 32n) | 5n,
    forwardNs: 7n,
    prefillTokens: 32,
    decodeTokens: 2,
    heldBlocks: 9,
  });
  assert.deepEqual([...(slices ?? [])], [42, 32, 0, 43, 1, 1]);
  assert.deepEqual(step?.finished[0]?.preempted, [{ afterNs: 3n, ns: (1n << 32n) | 4n, displaced: true }]);
});

test('a batch whose lengths do not add up is a loud error', () => {
  assert.throws(() => decodeSteps(Uint32Array.from([7, 0, 0, 0, 0, 0])), /rebuild the addon/);
});
