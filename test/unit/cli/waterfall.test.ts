import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExplainResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { bar, formatMs, formatWaterfall } from '../../../services/cli/waterfall.ts';

const ANSWER: ExplainResponse = {
  requestId: 'r-1',
  model: 'quern-mini',
  method: 'infill',
  user: 'ann',
  arrived: '2026-11-21T12:00:00.000Z',
  traceId: 'a'.repeat(32),
  outcome: 'stop',
  code: '',
  reason: '',
  message: '',
  stages: [
    { name: 'admit', startUs: 0n, durationUs: 100n },
    { name: 'prefill', startUs: 100n, durationUs: 49_900n },
    { name: 'decode', startUs: 50_000n, durationUs: 50_000n },
  ],
  durationUs: 100_000n,
  usage: { promptTokens: 40, cachedTokens: 32, completionTokens: 11 },
  timings: {
    queueNs: 0n,
    prefillNs: 49_900_000n,
    decodeNs: 50_000_000n,
    prefillChunks: 2,
    decodeSteps: 10,
    preemptions: 0,
    receivedUnixNs: 0n,
  },
  resumes: 0,
  steps: 11,
  longestGapUs: 7_400n,
};

test('stages lie below one another on one scale', () => {
  assert.equal(
    formatWaterfall(ANSWER),
    [
      'infill r-1 on quern-mini: stop',
      `arrived 2026-11-21T12:00:00.000Z from ann; trace ${'a'.repeat(32)}`,
      '',
      '  stage         from      took',
      '  admit       0.0 ms    0.1 ms  ▏',
      `  prefill     0.1 ms     50 ms  ${'█'.repeat(24)}`,
      `  decode       50 ms     50 ms  ${' '.repeat(24)}${'█'.repeat(24)}`,
      '  all                   100 ms',
      '',
      'prompt: 40 tokens, 32 of them from the prefix cache, prefilled in 2 chunks',
      'answer: 11 tokens in 11 steps, 200 tok/s, longest wait between two 7.4 ms',
      '',
    ].join('\n'),
  );
});

test('a shed request says why and has no figures of an answer', () => {
  const text = formatWaterfall({
    ...ANSWER,
    model: '',
    outcome: 'resource_exhausted',
    code: 'RESOURCE_EXHAUSTED',
    reason: 'OVERLOADED',
    message: 'too many requests run; retry in 1 s',
    usage: undefined,
    timings: undefined,
    steps: 0,
    longestGapUs: 0n,
  });
  assert.match(text, /refused or failed: RESOURCE_EXHAUSTED OVERLOADED: too many requests run; retry in 1 s\n$/);
  assert.doesNotMatch(text, /answer:|prompt:/);
});

test('preemption and a lost engine are told in words, a running request is one', () => {
  const timings = { ...ANSWER.timings!, preemptions: 1 };
  const text = formatWaterfall({ ...ANSWER, outcome: '', timings, resumes: 2 });
  assert.match(text, /^infill r-1 on quern-mini: still running\n/);
  assert.match(text, /preempted 1 time: the KV cache was full/);
  assert.match(text, /the engine was lost 2 times/);
});

test('bars never leave the width and are never invisible', () => {
  for (let i = 0; i <= 100; i += 1) {
    for (let j = i; j <= 100; j += 1) {
      const text = bar(i / 100, j / 100);
      assert.ok([...text].length <= 48 && text.trim().length > 0, `${i} ${j}`);
    }
  }
});

test('times read as a person says them', () => {
  assert.deepEqual([0.04, 9.94, 61.4, 2345].map(formatMs), ['0.0 ms', '9.9 ms', '61 ms', '2.35 s']);
});

test('of an agent run: turns and calls, names in full', () => {
  const stages = [
    { name: 'turn 0', startUs: 0n, durationUs: 40_000n },
    { name: 'run_code 0.0', startUs: 40_000n, durationUs: 60_000n },
  ];
  const lines = formatWaterfall({ ...ANSWER, method: 'agent', outcome: 'answered', stages }).split('\n');
  assert.equal(lines[0], 'agent r-1 on quern-mini: answered');
  assert.match(lines[4] ?? '', /^ {2}turn 0 {10}0\.0 ms/);
  assert.match(lines[5] ?? '', /^ {2}run_code 0\.0 +40 ms +60 ms/);
});
