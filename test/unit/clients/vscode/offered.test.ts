import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TextDocumentChangeEvent } from 'vscode';
import { type Note, Offered } from '../../../../clients/vscode/ui/offered.ts';
import { at, stubDocument } from './support/stub-api.ts';

const uri = 'file:///project/a';

function offer(rest: string) {
  const notes: Note[] = [];
  const offered = new Offered((note) => notes.push(note));
  offered.show({ uri, id: 'id-1', index: 0, at: at(0, 4), rest });
  const insert = (text: string, character: number, line = 0, isEmpty = true): void => {
    const contentChanges = [{ range: { isEmpty, start: at(line, character) }, text }];
    offered.changed({
      document: stubDocument('x', '', uri),
      contentChanges,
      reason: undefined,
    } as unknown as TextDocumentChangeEvent);
  };
  return { offered, insert, kinds: () => notes.map(({ kind }) => kind), notes };
}

test('typing along is neither taking a part nor sending away', () => {
  const { offered, insert, kinds } = offer('price');
  insert('p', 4);
  insert('r', 5);
  offered.left(uri, at(0, 6));
  assert.deepEqual(kinds(), ['shown']);
  assert.equal(offered.current?.rest, 'ice');
});

test('a bracket that closes itself is not a part', () => {
  const { insert, kinds } = offer('()\n');
  insert('()', 4);
  assert.deepEqual(kinds(), ['shown']);
});

test('a line that is taken moves the place to the next', () => {
  const { offered, insert, kinds } = offer('one\n  two\n');
  insert('one\r\n', 4);
  assert.deepEqual(kinds(), ['shown', 'partially_accepted']);
  assert.deepEqual([offered.current?.at.line, offered.current?.at.character, offered.current?.rest], [1, 0, '  two\n']);
});

test('other text, another place, or another file sends it away', () => {
  for (const go of [
    (one: ReturnType<typeof offer>) => one.insert('q', 4),
    (one: ReturnType<typeof offer>) => one.insert('price', 9),
    (one: ReturnType<typeof offer>) => one.insert('pr', 4, 0, false),
    (one: ReturnType<typeof offer>) => one.offered.left('file:///project/b', at(0, 4)),
    (one: ReturnType<typeof offer>) => one.offered.left(uri, null),
  ]) {
    const one = offer('price * 2');
    go(one);
    assert.deepEqual(one.kinds(), ['shown', 'dismissed']);
  }
});

test('taking all of it is told by its command alone', () => {
  const { offered, insert, kinds } = offer('price');
  insert('price', 4);
  offered.accepted('id-1');
  offered.left(uri, at(5, 0));
  assert.deepEqual(kinds(), ['shown']);
});

test('the same suggestion from the cache is shown once; another one ends it', () => {
  const { offered, kinds } = offer('price');
  offered.show({ uri, id: 'id-1', index: 0, at: at(0, 5), rest: 'rice' });
  offered.show({ uri, id: 'id-2', index: 0, at: at(0, 5), rest: 'rofit' });
  assert.deepEqual(kinds(), ['shown', 'dismissed', 'shown']);
});
