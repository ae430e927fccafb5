/** quern-lsp as an editor sees it: a process on standard streams, before a real gateway with a scripted engine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CancellationTokenSource } from 'vscode-languageserver/node';
import { eventually, startMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf } from '../gateway/fakes/mock-tokenizer.ts';
import { startEditor } from './support/editor.ts';

const uri = 'file:///project/answer.py';

test('a suggestion comes from the mesh, as text and range', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('return 6 * 7') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress });
  assert.equal(editor.initialized.capabilities.inlineCompletionProvider, true);
  assert.equal(editor.initialized.capabilities.positionEncoding, 'utf-16');
  await editor.open(uri, 'def answer():\n    \n');
  const items = await editor.complete(uri, { line: 1, character: 4 });
  const range = { start: { line: 1, character: 0 }, end: { line: 1, character: 4 } };
  assert.deepEqual(
    items.map(({ insertText, range }) => ({ insertText, range })),
    [{ insertText: '    return 6 * 7', range }],
  );
  assert.equal(mesh.engine.requests.length, 1);
  assert.equal(mesh.engine.requests[0]?.sampling?.n, 3, 'a manual trigger asks for candidates');
});

test('positions are UTF-16 units and changes are incremental', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('tail') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress });
  await editor.open(uri, 'x = "𝒳é" + \n');
  await editor.type(uri, 2, { line: 0, character: 12 }, 'y + ');
  const [item] = await editor.complete(uri, { line: 0, character: 16 });
  assert.equal(item?.insertText, 'tail');
  assert.deepEqual(item?.range, { start: { line: 0, character: 16 }, end: { line: 0, character: 16 } });
  const ids = mesh.engine.requests[0]?.tokenIds ?? [];
  const sent = Buffer.from(ids.filter((id) => id < 256)).toString();
  assert(sent.includes('x = "𝒳é" + y + '), sent);
});

test('a cancel of the editor is answered at once and reaches the engine', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 50, script: () => bytesOf('word '.repeat(200)) } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings: { maxTokens: 500 } });
  await editor.open(uri, 'value = \n');
  const cancel = new CancellationTokenSource();
  const answer = editor.complete(uri, { line: 0, character: 8 }, { cancel });
  await eventually(() => mesh.engine.live === 1, 'the engine has the request');
  cancel.cancel();
  assert.deepEqual(await answer, []);
  await eventually(() => mesh.engine.live === 0, 'the engine has let go of it');
  assert.equal(mesh.engine.cancels, 1);
});

test('without a mesh the answer is empty, at once, and the server lives', async (t) => {
  const editor = await startEditor(t, { gateway: '127.0.0.1:1' });
  await editor.open(uri, 'value = \n');
  assert.deepEqual(await editor.complete(uri, { line: 0, character: 8 }), []);
  assert.deepEqual(await editor.complete(uri, { line: 0, character: 8 }, { invoked: false }), []);
});

test('shutdown and exit end the process', async (t) => {
  const editor = await startEditor(t, { gateway: '127.0.0.1:1' });
  const exited = new Promise<number | null>((resolve) => editor.child.once('exit', resolve));
  await editor.connection.sendRequest('shutdown');
  await editor.connection.sendNotification('exit');
  assert.equal(await exited, 0);
});

test('an editor that goes away without a word ends the process, and what it had asked for', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 50, script: () => bytesOf('word '.repeat(200)) } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings: { maxTokens: 500 } });
  const exited = new Promise<number | null>((resolve) => editor.child.once('exit', resolve));
  await editor.open(uri, 'value = \n');
  editor.complete(uri, { line: 0, character: 8 }).catch(() => undefined); // nobody is left to answer
  await eventually(() => mesh.engine.live === 1, 'the engine has the request');
  editor.child.stdin?.end();
  assert.equal(await exited, 0);
  await eventually(() => mesh.engine.live === 0, 'the engine has let go of it');
});
