// The events of one call: what stays for streams that are behind, and what goes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExecuteResponse } from '#gen/quern/tools/v1/tools.ts';
import type { QuernError } from '#kit/errors.ts';
import { type CallEvent, CallEvents, type EventOut } from '../../../services/tools/call-events.ts';
import { unknownResult } from '../../../services/tools/executor.ts';
import { OUTPUT_EVENT_BYTES_MAX, RING_BYTES_MAX } from '../../../services/tools/limits.ts';

const { signal } = new AbortController();
const result = (bytes: number): CallEvent => ({
  $case: 'result',
  value: { ...unknownResult(), content: 'x'.repeat(bytes) },
});

/** A stream that takes one event, then none until go() is called. */
function stalled(): { out: EventOut; numbers: number[]; go: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const numbers: number[] = [];
  const write = ({ sequence }: ExecuteResponse): boolean => {
    numbers.push(Number(sequence));
    return false;
  };
  return { numbers, go: resolve, out: { write, drained: () => promise } };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

test('a large result takes nothing from the streams that are behind', async () => {
  const events = new CallEvents();
  const [first, second] = [stalled(), stalled()];
  const both = [events.follow(0n, first.out, signal), events.follow(0n, second.out, signal)];
  for (let i = 0; i < 3; i++) events.appendOutput(1, Buffer.alloc(OUTPUT_EVENT_BYTES_MAX));
  await Promise.resolve();
  events.append(result(RING_BYTES_MAX));
  first.go();
  second.go();
  await Promise.all(both);
  assert.deepEqual([first.numbers, second.numbers], [upTo(4), upTo(4)]);
  assert.ok(events.bytes <= 2 * RING_BYTES_MAX + 512, `${events.bytes}: read by all, the rest goes`);
});

test('many artifacts reach the stream that sets the pace', async () => {
  const events = new CallEvents();
  const reader = stalled();
  const followed = events.follow(0n, reader.out, signal);
  for (let i = 0; i < 32; i++) {
    const data = Buffer.alloc(64 * 1024);
    events.append({
      $case: 'artifact',
      value: { path: `f${i}`, size: 65_536n, sha256: data, mediaType: 'x', data },
    });
  }
  events.append(result(8));
  reader.go();
  await followed;
  assert.deepEqual(reader.numbers, upTo(33));
});

test('a second stream that is far behind holds nothing back, and is told so', async () => {
  const events = new CallEvents();
  const quick: EventOut = { write: () => true, drained: async () => {} };
  const slow = stalled();
  const first = events.follow(0n, quick, signal);
  const second = events.follow(0n, slow.out, signal);
  for (let i = 0; i < 64; i++) {
    events.appendOutput(1, Buffer.alloc(OUTPUT_EVENT_BYTES_MAX));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(events.bytes <= RING_BYTES_MAX + 2 * OUTPUT_EVENT_BYTES_MAX, `${events.bytes}`);
  events.append(result(8));
  slow.go();
  await assert.rejects(second, (error: QuernError) => error.code === 'OUT_OF_RANGE');
  await first;
});

test('without streams the newest events stay, within the bound', () => {
  const events = new CallEvents();
  for (let i = 0; i < 64; i++) events.appendOutput(1, Buffer.alloc(OUTPUT_EVENT_BYTES_MAX));
  assert.ok(events.bytes <= RING_BYTES_MAX, `${events.bytes}`);
});
