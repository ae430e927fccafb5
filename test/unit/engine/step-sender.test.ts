import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Finished, StepBatch } from '#gen/quern/engine/v1/engine.ts';
import { UNREAD_MAX_MS } from '../../../services/engine/limits.ts';
import { type Outbound, StepSender } from '../../../services/engine/step-sender.ts';

function setUp() {
  const sent: StepBatch[] = [];
  let writable = true;
  let waiting = Promise.withResolvers<void>();
  const clock = { ms: 1_000 };
  const unread: number[] = [];
  const sender = new StepSender({
    sink: {
      get writable() {
        return writable;
      },
      write(batch) {
        sent.push(structuredClone(batch));
        return writable;
      },
      drained: () => waiting.promise,
    },
    now_ms: () => clock.ms,
    onUnread: ({ handle }) => unread.push(handle),
  });
  return {
    sent,
    sender,
    clock,
    unread,
    stall() {
      writable = false;
      waiting = Promise.withResolvers<void>();
    },
    async resume() {
      writable = true;
      waiting.resolve();
      await new Promise((resolve) => setImmediate(resolve));
    },
    async breakOff() {
      waiting.reject(new Error('aborted'));
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

function outbound(handle: number): Outbound {
  return { handle, pending: null, finished: null, waitingSinceMs: 0 };
}

function end(handle: number): Finished {
  return { handle, choices: [], usage: undefined, timings: undefined, status: undefined, seed: 0n };
}

test('a reader that keeps up gets one batch per step', () => {
  const { sender, sent } = setUp();
  const [a, b] = [outbound(1), outbound(2)];
  sender.eventFor(a, 0).tokenIds.push(10);
  sender.eventFor(b, 0).tokenIds.push(20);
  sender.flush(2, 5);
  sender.eventFor(a, 0).tokenIds.push(11);
  sender.finish(a, end(1));
  sender.flush(1, 4);
  sender.flush(1, 4);
  assert.deepEqual(
    sent.map(({ tokens, finished, running, waiting }) => ({
      tokens: tokens.map(({ handle, tokenIds }) => [handle, ...tokenIds]),
      finished: finished.map(({ handle }) => handle),
      running,
      waiting,
    })),
    [
      {
        tokens: [
          [1, 10],
          [2, 20],
        ],
        finished: [],
        running: 2,
        waiting: 5,
      },
      { tokens: [[1, 11]], finished: [1], running: 1, waiting: 4 },
    ],
  );
});

test('while the reader lags, steps merge per sequence and choice; nothing is lost', async () => {
  const { sender, sent, stall, resume } = setUp();
  const a = outbound(1);
  stall();
  for (let step = 0; step < 5; step += 1) {
    sender.eventFor(a, 0).tokenIds.push(step);
    sender.eventFor(a, 1).tokenIds.push(step * 10);
    sender.flush(1, 0);
  }
  sender.finish(a, end(1));
  sender.flush(0, 0);
  assert.equal(sent.length, 0);
  assert.ok(sender.busy);
  await resume();
  assert.equal(sent.length, 1);
  assert.deepEqual(
    sent[0]?.tokens.map(({ choice, tokenIds }) => [choice, tokenIds]),
    [
      [0, [0, 1, 2, 3, 4]],
      [1, [0, 10, 20, 30, 40]],
    ],
  );
  assert.equal(sent[0]?.finished.length, 1);
  assert.ok(!sender.busy);
});

test('a sequence that is not read for too long is reported, a finished one is not', () => {
  const { sender, clock, unread, stall } = setUp();
  const [a, b] = [outbound(1), outbound(2)];
  stall();
  sender.eventFor(a, 0).tokenIds.push(1);
  sender.finish(b, end(2));
  sender.flush(1, 0);
  clock.ms += UNREAD_MAX_MS - 1;
  sender.flush(1, 0);
  assert.deepEqual(unread, []);
  clock.ms += 1;
  sender.flush(1, 0);
  assert.deepEqual(unread, [1]);
});

test('after an abort what waits is written without further waiting', async () => {
  const { sender, sent, stall, breakOff } = setUp();
  const a = outbound(1);
  stall();
  sender.eventFor(a, 0).tokenIds.push(1);
  sender.flush(1, 0);
  await breakOff();
  assert.equal(sent.length, 1);
  sender.finish(a, end(1));
  sender.flush(0, 0);
  assert.equal(sent.length, 2);
});

test('close drops everything and wakes who waits', async () => {
  const { sender, sent, stall, resume } = setUp();
  stall();
  sender.eventFor(outbound(1), 0).tokenIds.push(1);
  sender.flush(1, 0);
  const emptied = sender.emptied(5_000);
  sender.close();
  await emptied;
  await resume();
  assert.equal(sent.length, 0);
  assert.ok(!sender.busy);
});
