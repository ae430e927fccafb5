/** What an editor may get wrong, or leave out: it is told so, and the server lives. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { startMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf } from '../gateway/fakes/mock-tokenizer.ts';
import { type Editor, startEditor } from './support/editor.ts';

const uri = 'file:///project/answer.py';
const position = { line: 0, character: 8 };
const BIN = join(import.meta.dirname, '../../../clients/lsp/bin.mjs');

const ask = (editor: Editor, params: unknown): Promise<unknown> =>
  editor.connection.sendRequest('textDocument/inlineCompletion', params as object);

test('without a context a request counts as typing', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress });
  await editor.open(uri, 'value = \n');
  const { items } = (await ask(editor, { textDocument: { uri }, position })) as { items: { insertText: string }[] };
  assert.equal(items[0]?.insertText, 'answer()');
  assert.equal(mesh.engine.requests[0]?.sampling?.n, 1, 'nobody asked for more than one');
});

test('params that cannot be are refused as such, and the next request is answered', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress });
  const textDocument = { uri };
  await editor.open(uri, 'value = \n');
  for (const params of [
    ...[null, [], {}, { textDocument }, { textDocument, position: { line: 'first', character: 0 } }],
    { textDocument, position, context: { triggerKind: 'typed' } },
    { textDocument, position, context: { triggerKind: 1, selectedCompletionInfo: {} } },
  ]) {
    const error = await ask(editor, params).then(
      () => null,
      (thrown: { code: number; message: string }) => thrown,
    );
    assert.equal(error?.code, -32602, JSON.stringify(params));
    assert.doesNotMatch(error?.message ?? '', /undefined|destructure/);
  }
  for (const method of ['didOpen', 'didChange', 'didSave', 'didClose'])
    for (const params of [null, {}, { textDocument: { uri: 5 } }, { textDocument: { uri: '%%' } }])
      await editor.connection.sendNotification(`textDocument/${method}`, params as object);
  assert.equal((await editor.complete(uri, position))[0]?.insertText, 'answer()');
  // A change that cannot be: what the text is now nobody knows, so nothing is said about it until it is opened again.
  const change = { textDocument: { uri, version: 2 }, contentChanges: [{ text: 5 }] };
  await editor.connection.sendNotification('textDocument/didChange', change);
  assert.deepEqual(await editor.complete(uri, position), []);
  await editor.open(uri, 'value = \n');
  assert.equal((await editor.complete(uri, position))[0]?.insertText, 'answer()');
});

type Ran = { code: number | null; out: string; err: string };

/** quern-lsp with these words, until it ends. */
const run = (...words: string[]): Promise<Ran> =>
  new Promise((resolve) => {
    const child = execFile(process.execPath, [BIN, ...words], (_, out, err) =>
      resolve({ code: child.exitCode, out, err }),
    );
    child.stdin?.end();
  });

test('the command line: help and version are said, what is not known is named with how it is used', async () => {
  const help = await run('--help');
  assert.deepEqual([help.code, help.err], [0, '']);
  assert.match(help.out, /^usage: quern-lsp --stdio/);
  const version = await run('--version');
  assert.equal(version.code, 0);
  assert.match(version.out, /^quern-lsp \d+\.\d+\.\d+\n$/);
  for (const [words, message] of [
    [['--foo'], 'unknown option --foo'],
    [['--stdio', '--foo'], 'unknown option --foo'],
    [[], 'expected --stdio'],
  ] as const) {
    const wrong = await run(...words);
    assert.deepEqual([wrong.code, wrong.out], [2, '']);
    assert(wrong.err.startsWith(`quern-lsp: ${message}\nusage: quern-lsp --stdio`), wrong.err);
  }
});
