/** The replay of typing against a script (test/bench/replay), over sources that the lock file pins: its bars, and that it repeats. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { openPromptModel } from '../../../bench/replay/prompt-cache.ts';
import { clientRows, keptRows, latencyRows, promptRows } from '../../../bench/replay/replay-table.ts';
import { playScripted, type Run } from '../../../bench/replay/scripted-run.ts';
import { ROOT, readSources } from '../../../bench/replay/sources.ts';
import { makeTrace } from '../../../bench/replay/trace.ts';

const traces = readSources(12, ['typescript', 'javascript']).map((source, index) => makeTrace(source, index, 'a'));

const rowsOf = (runs: readonly Run[]) => [...clientRows(runs), ...latencyRows(runs), ...keptRows(runs)];

test('typing is answered within its bars: requests, queries at once, time from the key, prompts that a cache knows', async () => {
  const model = await openPromptModel(join(ROOT, 'models/quern-mini'));
  assert(model.promptTokens !== null, 'it advises how long a prompt is: the window is small, and its grid too');
  const runs: Run[] = [];
  for (const trace of traces) runs.push(await playScripted(trace, model));
  assert(runs.length >= 8);
  const rows = [...rowsOf(runs), ...promptRows(runs)];
  for (const { what, value, bar, holds } of rows) assert.notEqual(holds, false, `${what}: ${value}, ${bar}`);
  assert(
    runs.every(({ whole }) => whole),
    'every text was typed to its end',
  );
  const shown = runs.reduce((sum, { played }) => sum + played.shown.length, 0);
  assert(shown > 200, `only ${shown} suggestions were shown: the test shows little`);
});

test('a trace is the same in every run', async () => {
  const [trace] = traces;
  assert(trace);
  assert.deepEqual(rowsOf([await playScripted(trace, null)]), rowsOf([await playScripted(trace, null)]));
});
