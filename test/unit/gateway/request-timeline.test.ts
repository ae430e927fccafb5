import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { localPrincipal } from '#kit/principal.ts';
import { RequestTimeline, type StageName } from '../../../services/gateway/request-timeline.ts';

const USAGE = { promptTokens: 8, cachedTokens: 4, completionTokens: 3 };
const ENGINE = { prefillChunks: 1, decodeSteps: 2, preemptions: 0, receivedUnixNs: 0n };
const facts = { requestId: 'r', principal: localPrincipal, method: 'complete' as const, traceId: '0'.repeat(32) };

/** A timeline on a clock that the test turns. */
function timed(t: { mock: { method: typeof import('node:test').mock.method } }) {
  let now = 1000;
  t.mock.method(performance, 'now', () => now);
  const timeline = new RequestTimeline(facts, now);
  const at = (ms: number): RequestTimeline => {
    now = 1000 + ms;
    return timeline;
  };
  const enter = (ms: number, name: StageName): void => at(ms).enter(name);
  const shown = () =>
    timeline.stages().map(({ name, startUs, durationUs }) => [name, Number(startUs), Number(durationUs)]);
  return { at, enter, shown, timeline };
}

test("the engine's timings split its stage; stages follow one another without overlap", (t) => {
  const { at, enter, shown } = timed(t);
  enter(1, 'tokenize');
  enter(3, 'route');
  enter(4, 'engine');
  at(20).step();
  at(30).step();
  at(50).step();
  enter(51, 'finish');
  const timings = { ...ENGINE, queueNs: 5_000_000n, prefillNs: 10_000_000n, decodeNs: 30_000_000n };
  at(52).finish({ outcome: 'stop', error: null, usage: USAGE, timings });
  const wanted = [
    ['admit', 0, 1000],
    ['tokenize', 1000, 2000],
    ['route', 3000, 1000],
    ['queue', 4000, 5000],
    ['prefill', 9000, 10_000],
    ['decode', 19_000, 30_000],
    ['finish', 51_000, 1000],
  ];
  assert.deepEqual(shown(), wanted);
  at(99);
  assert.deepEqual(shown(), wanted, 'an ended request grows no more');
  assert.deepEqual([at(99).durationUs, at(99).steps, at(99).longestGapMs], [52_000n, 3, 20]);
});

test('while it runs, the last stage lasts until now', (t) => {
  const { at, enter, shown } = timed(t);
  enter(1, 'tokenize');
  at(5);
  assert.deepEqual(shown(), [
    ['admit', 0, 1000],
    ['tokenize', 1000, 4000],
  ]);
  enter(6, 'engine');
  at(8);
  assert.deepEqual(shown().at(-1), ['engine', 6000, 2000]);
  at(9).step();
  at(11);
  assert.deepEqual(shown().slice(-2), [
    ['engine', 6000, 3000],
    ['decode', 9000, 2000],
  ]);
});

test('timings that are longer than the stage are cut at its end', (t) => {
  const { at, enter, shown } = timed(t);
  enter(0, 'engine');
  const timings = { ...ENGINE, queueNs: 8_000_000n, prefillNs: 8_000_000n, decodeNs: 8_000_000n };
  at(10).finish({ outcome: 'cancelled', error: new QuernError('CANCELLED', 'gone'), usage: USAGE, timings });
  assert.deepEqual(shown().slice(1), [
    ['queue', 0, 8000],
    ['prefill', 8000, 2000],
    ['decode', 10_000, 0],
  ]);
});

test("the engine's end of a request that was given up comes later and splits its time", (t) => {
  const { at, enter, shown } = timed(t);
  enter(1, 'engine');
  at(8).step();
  const timings = { ...ENGINE, queueNs: 2_000_000n, prefillNs: 5_000_000n, decodeNs: 4_000_000n };
  at(9).lateEnd({ timings, usage: USAGE });
  assert.equal(at(9).end, null, 'a request that runs is told by its generation');
  const gone = { outcome: 'cancelled', error: new QuernError('CANCELLED', 'gone'), timings: undefined };
  at(10).finish({ ...gone, usage: { ...USAGE, cachedTokens: 0 } });
  assert.deepEqual(shown().slice(1), [
    ['engine', 1000, 7000],
    ['decode', 8000, 2000],
  ]);
  at(12).lateEnd({ timings, usage: { ...USAGE, cachedTokens: 4 } });
  at(13).lateEnd({ timings: { ...timings, queueNs: 0n }, usage: undefined });
  assert.deepEqual(shown().slice(1), [
    ['queue', 1000, 2000],
    ['prefill', 3000, 5000],
    ['decode', 8000, 2000],
  ]);
  assert.deepEqual([at(14).usage.cachedTokens, at(14).durationUs], [4, 10_000n]);
});

test('a resume shows the lost engine and the new one', (t) => {
  const { at, enter, shown } = timed(t);
  enter(1, 'engine');
  at(5).step();
  enter(10, 'route');
  enter(12, 'engine');
  const timings = { ...ENGINE, queueNs: 0n, prefillNs: 3_000_000n, decodeNs: 5_000_000n };
  at(20).finish({ outcome: 'stop', error: null, usage: USAGE, timings });
  assert.deepEqual(
    shown().map(([name]) => name),
    ['admit', 'engine', 'route', 'queue', 'prefill', 'decode'],
  );
});
