/** The replay of typing against a script (test/bench/replay), over sources that the lock file pins: its bars, and that it repeats. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Documents } from '../../../../clients/lsp/core/documents.ts';
import { placeOf } from '../../../../clients/lsp/core/place.ts';
import { roomFor } from '../../../../clients/lsp/core/room.ts';
import { openPromptModel, PromptCache } from '../../../bench/replay/prompt-cache.ts';
import { clientRows, keptRows, latencyRows, promptRows } from '../../../bench/replay/replay-table.ts';
import { playScripted, type Run } from '../../../bench/replay/scripted-run.ts';
import { ROOT, readSources } from '../../../bench/replay/sources.ts';
import { makeTrace } from '../../../bench/replay/trace.ts';

const traces = readSources(12, ['typescript', 'javascript']).map((source, index) => makeTrace(source, index, 'a'));

const QUERY = { path: 'a.py', repository: '', chunks: [], maxTokens: 64 };

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

test('in a long file too the windows of client and mesh, one within the other, stay where they are while somebody types', async () => {
  const model = await openPromptModel(join(ROOT, 'models/quern-mini'));
  const { contextLength, promptTokens } = model;
  assert(promptTokens !== null);
  const { window } = roomFor({ model: '', contextLength, infillPromptTokens: promptTokens }, 64);
  const lines = Array.from(
    { length: 600 },
    (_, i) => `    value_${i} = compute(previous, ${i}) # ${'of a line '.repeat(i % 4)}\n`,
  );
  const typed = lines.slice(300, 340).join('');
  const cache = new PromptCache(model);
  let prompts = 0;
  for (let end = 0; end < typed.length; end += 5, prompts++) {
    const documents = new Documents();
    documents.open(
      'file:///a.py',
      'python',
      1,
      [...lines.slice(0, 300), typed.slice(0, end), ...lines.slice(340)].join(''),
    );
    const document = documents.get('file:///a.py');
    assert(document);
    const at = lines.slice(0, 300).join('').length + end;
    const place = placeOf(document, document.positionAt(at), null, window);
    assert(place && place.prefix.length < at, 'the window is smaller than what stands before the cursor');
    const { prefix, suffix } = place;
    cache.take({ ...QUERY, prefix, suffix });
  }
  const { tokens, cached } = cache;
  assert(tokens / prompts > 0.7 * promptTokens, `${tokens / prompts} tokens in the mean`);
  assert(cached / tokens > 0.9, `${cached} of ${tokens} tokens were there before, in ${prompts} prompts`);
});
