import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InfillFailure, type InfillQuery } from '../../../../clients/lsp/core/infill-source.ts';
import { WARM_EVERY_MS, WARM_IDLE_MS, WARM_PAUSE_MS } from '../../../../clients/lsp/core/limits.ts';
import { Warmer } from '../../../../clients/lsp/core/warmer.ts';
import { VirtualClock } from './support/virtual-clock.ts';

/** A mesh that reads for `ms`. */
function start(ms = 500) {
  const clock = new VirtualClock();
  const bench = {
    clock,
    allowed: true,
    busy: false,
    fails: null as InfillFailure | null,
    at: [] as number[],
    cancels: 0,
  };
  const source = {
    warm(_query: InfillQuery, { signal }: { signal: AbortSignal }): Promise<void> {
      bench.at.push(clock.now());
      return new Promise((resolve, reject) => {
        const stop = clock.after(ms, () => (bench.fails ? reject(bench.fails) : resolve()));
        signal.addEventListener('abort', () => {
          stop();
          bench.cancels++;
          reject(new InfillFailure('cancelled', 'cancelled'));
        });
      });
    },
  };
  const query = async (): Promise<InfillQuery> => ({ requestId: 'w' }) as InfillQuery;
  const parts = { clock, source, query, allowed: () => bench.allowed, busy: () => bench.busy };
  return Object.assign(bench, { warmer: new Warmer(parts) });
}

test('a change is read ahead once, after three seconds without typing', async () => {
  const bench = start();
  bench.warmer.noteActivity();
  await bench.clock.advance(60_000);
  assert.deepEqual(bench.at, [], 'nothing changed');
  bench.warmer.noteChange();
  await bench.clock.advance(WARM_IDLE_MS - 1);
  bench.warmer.noteActivity();
  await bench.clock.advance(WARM_IDLE_MS - 1);
  assert.deepEqual(bench.at, []);
  await bench.clock.advance(60_000);
  assert.deepEqual(bench.at, [60_000 + 2 * WARM_IDLE_MS - 1]);
  assert.equal(bench.clock.pending, 0);
});

test('at most one runs, and one begins in ten seconds', async () => {
  const bench = start(25_000);
  for (let i = 0; i < 60; i++) {
    bench.warmer.noteChange();
    await bench.clock.advance(1_000);
  }
  await bench.clock.advance(5_000);
  bench.warmer.noteChange();
  await bench.clock.advance(15_000);
  assert.equal(bench.at.length, 1, 'the first runs still');
  await bench.clock.advance(20_000);
  assert.equal(bench.at.length, 2);
  const quick = start(10);
  for (let i = 0; i < 10; i++) {
    quick.warmer.noteChange();
    await quick.clock.advance(4_000);
  }
  for (const [i, at] of quick.at.entries()) if (i > 0) assert(at - quick.at[i - 1]! >= WARM_EVERY_MS, `${quick.at}`);
  assert(quick.at.length >= 3);
});

test('typing cancels it, and it comes again when the typing pauses', async () => {
  const bench = start();
  bench.warmer.noteChange();
  await bench.clock.advance(WARM_IDLE_MS + 100);
  bench.warmer.noteActivity();
  assert.equal(bench.cancels, 1);
  await bench.clock.advance(60_000);
  assert.deepEqual(bench.at, [WARM_IDLE_MS, WARM_IDLE_MS + WARM_EVERY_MS]);
});

test('never beside a completion, and not where it is turned off', async () => {
  const bench = start();
  bench.busy = true;
  bench.warmer.noteChange();
  await bench.clock.advance(20_000);
  assert.deepEqual(bench.at, []);
  bench.busy = false;
  await bench.clock.advance(WARM_IDLE_MS);
  assert.equal(bench.at.length, 1);
  const off = start();
  off.allowed = false;
  off.warmer.noteChange();
  await off.clock.advance(60_000);
  assert.deepEqual([off.at.length, off.clock.pending], [0, 0]);
});

test('a mesh that refuses is left alone for a minute, and a reset forgets what was wanted', async () => {
  const bench = start();
  bench.fails = new InfillFailure('overloaded', 'full');
  bench.warmer.noteChange();
  await bench.clock.advance(WARM_IDLE_MS + 600);
  bench.warmer.noteChange();
  await bench.clock.advance(WARM_PAUSE_MS - 200);
  assert.equal(bench.at.length, 1);
  await bench.clock.advance(200);
  assert.equal(bench.at.length, 2);
  bench.warmer.noteChange();
  bench.warmer.reset();
  await bench.clock.advance(200_000);
  assert.equal(bench.at.length, 2);
  assert.equal(bench.clock.pending, 0);
});
