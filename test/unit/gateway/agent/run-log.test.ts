// The events of a run: numbers, readers, what is kept, and readers that fall behind.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuernError } from '#kit/errors.ts';
import { type RunEvent, RunLog, type RunReader } from '../../../../services/gateway/agent/run-log.ts';

const { signal } = new AbortController();
const delta = (content = 'x'): RunEvent => ({ $case: 'delta', value: { content, reasoning: '' } });

async function all(reader: RunReader): Promise<number[]> {
  const numbers: number[] = [];
  for (let event = await reader.next({ signal }); event; event = await reader.next({ signal }))
    numbers.push(Number(event.sequence));
  return numbers;
}

test('every reader sees every event behind its start, whenever it comes', async () => {
  const log = new RunLog();
  const early = all(log.reader(0));
  for (let i = 0; i < 3; i += 1) log.emit('', delta());
  const late = all(log.reader(1));
  log.emit('', delta());
  log.close();
  log.emit('', delta());
  assert.deepEqual(await early, [1, 2, 3, 4]);
  assert.deepEqual(await late, [2, 3, 4]);
  assert.deepEqual(await all(log.reader(4)), []);
});

test('what is no longer kept, or not there yet, is OUT_OF_RANGE', async () => {
  const log = new RunLog({ eventsMax: 3 });
  for (let i = 0; i < 5; i += 1) log.emit('', delta());
  for (const after of [0, 1, 6]) {
    assert.throws(
      () => log.reader(after),
      (error: QuernError) => error.code === 'OUT_OF_RANGE',
      String(after),
    );
  }
  log.close();
  assert.deepEqual(await all(log.reader(2)), [3, 4, 5]);
});

test('bytes are bounded too', () => {
  const log = new RunLog({ bytesMax: 10_000 });
  for (let i = 0; i < 50; i += 1) log.emit('', delta('x'.repeat(1000)));
  assert.throws(() => log.reader(30));
  log.reader(45).close();
});

test('what a reader has not taken stays, however large the newest event is; then it goes', async () => {
  const log = new RunLog({ bytesMax: 10_000, eventsMax: 4 });
  const reader = log.reader(0);
  for (let i = 0; i < 6; i += 1) log.emit('', delta());
  log.emit('', delta('x'.repeat(50_000)));
  const numbers: number[] = [];
  for (let i = 0; i < 7; i += 1) numbers.push(Number((await reader.next({ signal }))?.sequence));
  assert.deepEqual(numbers, [1, 2, 3, 4, 5, 6, 7]);
  assert.throws(() => log.reader(5), 'all have taken it, so it is not kept');
  log.emit('', delta('x'.repeat(50_000)));
  reader.close();
  assert.throws(() => log.reader(6), 'nobody reads any more');
});

test('a run waits for a reader that is behind, and goes on when it has read or gone', async () => {
  const log = new RunLog({ lagEventsMax: 2 });
  const reader = log.reader(0);
  for (let i = 0; i < 3; i += 1) log.emit('', delta());
  let isReady = false;
  const ready = log.ready({ signal }).then(() => {
    isReady = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isReady, false);
  await reader.next({ signal });
  await ready;
  log.emit('', delta());
  const again = log.ready({ signal });
  reader.close();
  await again;
});

test('a reader that reads nothing for too long is dropped; the others are not', async () => {
  const log = new RunLog({ lagEventsMax: 2, slowReaderMs: 20 });
  const slow = log.reader(0);
  const counts: number[] = [];
  log.onReaders = (count) => counts.push(count);
  for (let i = 0; i < 4; i += 1) log.emit('', delta());
  await log.ready({ signal });
  assert.deepEqual(counts, [0]);
  await assert.rejects(slow.next({ signal }), (error: QuernError) => error.details.reason === 'SLOW_READER');
});

test('waiting ends with the signal', async () => {
  const log = new RunLog({ lagEventsMax: 1 });
  const stop = new AbortController();
  const reader = log.reader(0);
  const next = reader.next({ signal: stop.signal });
  stop.abort(new Error('gone'));
  await assert.rejects(next);
  for (let i = 0; i < 3; i += 1) log.emit('', delta());
  await assert.rejects(log.ready({ signal: stop.signal }));
  log.close();
});
