import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Answer } from '../../../../clients/lsp/core/completer.ts';
import { Documents } from '../../../../clients/lsp/core/documents.ts';
import { TRACKED_MAX } from '../../../../clients/lsp/core/limits.ts';
import { type SuggestionEvent, SuggestionEvents } from '../../../../clients/lsp/core/suggestion-events.ts';
import { VirtualClock } from './support/virtual-clock.ts';

const uri = 'file:///a.py';

function answerOf(id: string, insertText: string, line = 1, character = 4): Answer {
  const position = { line, character };
  const suggestions = [{ insertText, range: { start: position, end: position } }];
  return { id, suggestions, reason: null, rule: null, from: 'stream', partial: false, traceId: '' };
}

function start() {
  const clock = new VirtualClock();
  const documents = new Documents();
  const got: SuggestionEvent[] = [];
  const events = new SuggestionEvents({ clock, documents, sink: (event) => got.push(event) });
  documents.open(uri, 'python', 1, 'def f():\n    \n');
  const offer = (id: string, text: string): void => events.answered(answerOf(id, text), documents.get(uri)!);
  let version = 1;
  const insert = (line: number, character: number, text: string, endCharacter = character): void => {
    const range = { start: { line, character }, end: { line, character: endCharacter } };
    documents.change(uri, ++version, [{ range, text }]);
  };
  return { clock, documents, events, got, offer, insert };
}

test('shown counts after half a second; a suggestion that flashed by is none', async () => {
  const { clock, events, got, offer } = start();
  offer('a', 'return 1');
  events.note({ kind: 'shown', id: 'a', index: 0 });
  await clock.advance(300);
  events.note({ kind: 'dismissed', id: 'a', index: 0 });
  await clock.advance(1_000);
  assert.deepEqual(got, []);
  offer('b', 'return 2');
  events.note({ kind: 'shown', id: 'b', index: 0 });
  events.note({ kind: 'shown', id: 'b', index: 0 });
  await clock.advance(600);
  events.note({ kind: 'dismissed', id: 'b', index: 0 });
  assert.deepEqual(
    got.map(({ kind, id, elapsedMs }) => [kind, id, elapsedMs]),
    [
      ['shown', 'b', 500],
      ['dismissed', 'b', 600],
    ],
  );
  assert.equal(events.note({ kind: 'shown', id: 'unknown', index: 0 }), false);
});

test('accepted, then kept: what is left of it after 30 s and 5 min, and no text in any event', async () => {
  const { clock, events, got, offer, insert } = start();
  offer('a', 'return total');
  events.note({ kind: 'partially_accepted', id: 'a', index: 0, chars: 6 });
  events.note({ kind: 'accepted', id: 'a', index: 0 });
  insert(1, 4, 'return total'); // the edit may come behind the note
  insert(0, 0, '# above\n');
  await clock.advance(30_000);
  insert(2, 11, 'x', 16); // total became x
  await clock.advance(300_000);
  assert.deepEqual(
    got.map(({ kind, chars, elapsedMs }) => [kind, chars, elapsedMs]),
    [
      ['shown', 12, 0],
      ['partially_accepted', 6, 0],
      ['accepted', 12, 0],
      ['kept', 12, 30_000],
      ['kept', 7, 300_000],
    ],
  );
  assert(!JSON.stringify(got).includes('return'));
  events.close();
  assert.equal(clock.pending, 0);
});

test('text that drifted far is given up, and of many suggestions only the last are followed', async () => {
  const { clock, events, got, offer, insert } = start();
  offer('a', 'go()');
  insert(1, 4, 'go()');
  events.note({ kind: 'accepted', id: 'a', index: 0 });
  insert(1, 6, 'x'.repeat(1_000));
  await clock.advance(400_000);
  assert(!got.some(({ kind }) => kind === 'kept'));
  for (let i = 0; i <= TRACKED_MAX; i++) offer(`n${i}`, 'x()');
  assert.equal(events.note({ kind: 'shown', id: 'a', index: 0 }), false);
  assert.equal(events.note({ kind: 'shown', id: `n${TRACKED_MAX}`, index: 0 }), true);
  events.close();
});
