/** Asking: what failed becomes a row, what is not to be expected any more ends the work, and nothing that came is lost. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Asking, askAll } from '../../../services/cli/eval/ask.ts';
import type { Hole } from '../../../services/cli/eval/holes.ts';
import type { Row } from '../../../services/cli/eval/result.ts';
import { sha256 } from '../../../services/cli/eval/sources.ts';
import { openSyntax } from '../../../services/cli/eval/syntax.ts';
import { QuernError } from '../../../services/kit/errors.ts';

const TEXT = 'first_name = 1\n'.repeat(8);
const SOURCE = { path: 'a.py', language: 'python', sha256: sha256(TEXT), text: TEXT };
const HOLES: Hole[] = Array.from({ length: 8 }, (_, at) => {
  return { id: `hole${at}`, kind: 'line', source: SOURCE, start: at * 15, end: at * 15 + 14 };
});

/** `answer` is called with how many asked before; what it throws is the call's failure. */
async function asking(
  t: TestContext,
  answer: (calls: number, signal: AbortSignal) => string | Promise<string>,
  more: Partial<Asking> = {},
): Promise<Asking> {
  const syntax = await openSyntax();
  t.after(() => syntax.close());
  let calls = 0;
  const gateway: Asking['gateway'] = {
    async *infill(_request, { signal }) {
      const text = await answer(calls++, signal);
      yield { event: { $case: 'delta', value: { index: 0, text } } } as never;
    },
  };
  return {
    ...{ gateway, model: 'm', syntax, readings: new Map([[SOURCE.sha256, await syntax.read(TEXT, 'python')]]) },
    ...{
      window: { before: 9, after: 9 },
      promptTokens: 0,
      concurrency: 2,
      withText: false,
      pauseMs: 1,
      signal: new AbortController().signal,
    },
    onRow: () => undefined,
    ...more,
  };
}

test('a failed call is a row with its code, and the rest goes on', async (t) => {
  const seen: Row[] = [];
  const answer = (calls: number): string => {
    if (calls === 2) throw new QuernError('RESOURCE_EXHAUSTED', 'full');
    return 'first_name = 1';
  };
  const { rows, stopped } = await askAll(HOLES, await asking(t, answer, { onRow: (row) => seen.push(row) }));
  assert.equal(stopped, null);
  assert.deepEqual(
    rows.map(({ id, failure, exact }) => [id, failure, exact]),
    HOLES.map(({ id }, at) => (at === 2 ? [id, 'RESOURCE_EXHAUSTED', null] : [id, null, true])),
  );
  assert.equal(seen.length, 8);
});

const away = (_tries?: number): never => {
  throw new QuernError('UNAVAILABLE', 'no mesh answers');
};

test('a mesh that is away for a moment is asked again', async (t) => {
  const answer = (calls: number): string => (calls === 2 || calls === 3 ? away() : 'first_name = 1');
  const { rows, stopped } = await askAll(HOLES, await asking(t, answer, { concurrency: 1 }));
  assert.deepEqual([stopped, rows.length, rows.every(({ failure }) => failure === null)], [null, 8, true]);
});

test('a mesh that is gone ends the work after five tries of one hole; what came before is told', async (t) => {
  for (const concurrency of [1, 3, 64]) {
    let tries = 0;
    const answer = (calls: number): string => (calls < 3 ? 'first_name = 1' : away(tries++));
    const { rows, stopped } = await askAll(HOLES, await asking(t, answer, { concurrency }));
    assert.deepEqual([stopped?.code, stopped?.message], ['UNAVAILABLE', 'no mesh answers']);
    assert.deepEqual([rows.length, rows.every(({ failure }) => failure === null)], [3, true]);
    assert.ok(tries >= 5 && tries <= 5 * Math.min(concurrency, HOLES.length), String(tries));
  }
});

test('one hole that brings the engine down each time is a row, as long as others are answered', async (t) => {
  // Between two tries of hole0 one other hole is answered: each waits for the other.
  const mayGo = HOLES.map(() => Promise.withResolvers<void>());
  const isDone = HOLES.map(() => Promise.withResolvers<void>());
  let tries = 0;
  const gateway: Asking['gateway'] = {
    async *infill({ prefix }) {
      const at = prefix.split('\n').length - 1;
      if (at === 0) {
        if (tries > 0) await isDone[tries]?.promise;
        mayGo[++tries]?.resolve();
        away();
      }
      await mayGo[at]?.promise;
      yield { event: { $case: 'delta', value: { index: 0, text: 'first_name = 1' } } } as never;
    },
  };
  const onRow = ({ id }: Row): void => isDone[Number(id.slice('hole'.length))]?.resolve();
  const six = { ...(await asking(t, () => '')), gateway, onRow, concurrency: 6 };
  const { rows, stopped } = await askAll(HOLES.slice(0, 6), six);
  assert.deepEqual([stopped, tries], [null, 5]);
  const failures = rows.map(({ failure }) => failure);
  assert.deepEqual(failures, ['UNAVAILABLE', null, null, null, null, null]);
});

test('a mesh that refuses us is not asked for every hole', async (t) => {
  let calls = 0;
  const answer = (): never => {
    calls++;
    throw new QuernError('UNAUTHENTICATED', 'no such key');
  };
  const { rows, stopped } = await askAll(HOLES, await asking(t, answer, { concurrency: 1 }));
  assert.deepEqual([rows, stopped?.message, calls], [[], 'no such key', 1]);
});

test('what ends the work leaves the rows that came before', async (t) => {
  const stop = new AbortController();
  const answer = async (calls: number, signal: AbortSignal): Promise<string> => {
    if (calls < 3) return 'first_name = 1';
    stop.abort();
    throw signal.reason;
  };
  const { rows, stopped } = await askAll(HOLES, await asking(t, answer, { concurrency: 1, signal: stop.signal }));
  assert.deepEqual([rows.length, stopped?.code], [3, 'CANCELLED']);
  const full = new QuernError('INVALID_ARGUMENT', 'the disk is full');
  const onRow = ({ id }: Row): void => {
    if (id === 'hole4') throw full;
  };
  const later = await askAll(HOLES, await asking(t, () => 'first_name = 1', { concurrency: 1, onRow }));
  assert.deepEqual([later.rows.length, later.stopped], [5, full]);
});
