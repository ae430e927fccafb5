import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorCodes, ResponseError } from 'vscode-languageserver';
import { readChanged, readInlineParams, readListParams, readOpened } from '../../../../clients/lsp/request-params.ts';

const place = { textDocument: { uri: 'file:///a.py' }, position: { line: 1, character: 2 } };
const range = { start: { line: 1, character: 0 }, end: { line: 1, character: 2 } };

/** Refused as the protocol has it, with a sentence. */
const refused = (message: string) => (error: unknown) => {
  assert(error instanceof ResponseError);
  assert.equal(error.code, ErrorCodes.InvalidParams);
  assert.equal(error.message, message);
  return true;
};

test('who asked is in the context; without one it counts as typing', () => {
  const invoked = (context?: unknown): boolean => readInlineParams({ ...place, context }).invoked;
  for (const context of [undefined, null, {}, { triggerKind: null }, { triggerKind: 2 }])
    assert.equal(invoked(context), false);
  assert.equal(invoked({ triggerKind: 1 }), true);
  assert.equal(readListParams({ ...place, context: { triggerKind: 1 } }).invoked, false);
  const read = readInlineParams({ ...place, context: { selectedCompletionInfo: { range, text: 'ab' } } });
  assert.deepEqual(read, {
    ...{ uri: 'file:///a.py', position: { line: 1, character: 2 }, invoked: false },
    selected: { range, text: 'ab' },
  });
});

test('what cannot be is refused with what was expected and what came', () => {
  const uint = 'a whole number from 0 to 2147483647';
  for (const [given, message] of [
    [undefined, 'params: expected an object, got nothing'],
    [[], 'params: expected an object, got an array'],
    [{}, 'textDocument: expected an object, got nothing'],
    [{ ...place, textDocument: { uri: 5 } }, 'textDocument.uri: expected a text, got 5'],
    [{ ...place, position: null }, 'position: expected an object, got null'],
    [{ ...place, position: { line: -1, character: 0 } }, `position.line: expected ${uint}, got -1`],
    [{ ...place, position: { line: 1, character: 0.5 } }, `position.character: expected ${uint}, got 0.5`],
    [{ ...place, position: { line: 1 } }, `position.character: expected ${uint}, got nothing`],
  ] as const) {
    assert.throws(() => readInlineParams(given), refused(message));
    assert.throws(() => readListParams(given), refused(message));
  }
  for (const [context, message] of [
    [7, 'context: expected an object, got 7'],
    [{ triggerKind: 0 }, 'context.triggerKind: expected 1 (invoked) or 2 (automatic), got 0'],
    [{ selectedCompletionInfo: 'x' }, 'context.selectedCompletionInfo: expected an object, got "x"'],
    [
      { selectedCompletionInfo: { range, text: ['my', 'code'] } },
      'context.selectedCompletionInfo.text: expected a text, got an array',
    ],
    [
      { selectedCompletionInfo: { text: 'x' } },
      'context.selectedCompletionInfo.range: expected an object, got nothing',
    ],
  ] as const)
    assert.throws(() => readInlineParams({ ...place, context }), refused(message));
});

test('documents: what opens and what changes is checked before anything is changed', () => {
  const textDocument = { uri: 'file:///a.py', languageId: 'python', version: 1, text: 'x' };
  assert.deepEqual(readOpened({ textDocument }), textDocument);
  for (const [field, message] of [
    ['uri', 'textDocument.uri: expected a text, got nothing'],
    ['languageId', 'textDocument.languageId: expected a text, got nothing'],
    ['version', 'textDocument.version: expected a whole number, got nothing'],
    ['text', 'textDocument.text: expected a text, got nothing'],
  ] as const)
    assert.throws(() => readOpened({ textDocument: { ...textDocument, [field]: undefined } }), refused(message));
  const changed = (contentChanges: unknown) => readChanged({ textDocument, contentChanges }).changes();
  assert.deepEqual(changed([{ text: 'a' }, { text: 'b', range, rangeLength: 2 }]), [
    { text: 'a' },
    { text: 'b', range },
  ]);
  assert.throws(() => changed({}), refused('contentChanges: expected an array, got an object'));
  assert.throws(() => changed([{ range }]), refused('contentChanges[0].text: expected a text, got nothing'));
});
