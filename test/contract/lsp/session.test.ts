/** What goes with a session of quern-lsp: settings that change, other files, the plain list, numbers and reasons. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { CompletionList } from 'vscode-languageserver/node';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { eventually, startMesh, type TestMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf } from '../gateway/fakes/mock-tokenizer.ts';
import { startEditor } from './support/editor.ts';

const uri = 'file:///project/answer.py';
const end = { line: 0, character: 8 };

type Outcome = {
  uri: string;
  id: string;
  reason: string | null;
  rule: string | null;
  from: string;
  count: number;
  traceId: string;
};

const promptsOf = (mesh: TestMesh): string[] =>
  mesh.engine.requests.map(({ tokenIds }) => Buffer.from(tokenIds.filter((id) => id < 256)).toString());

test('turned off while it runs, nothing is sent; turned on again, it is', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress });
  await editor.open(uri, 'value = \n');
  const configure = (settings: unknown): Promise<void> =>
    editor.connection.sendNotification('workspace/didChangeConfiguration', { settings });
  await configure({ quern: { enabled: false } });
  assert.deepEqual(await editor.complete(uri, end), []);
  assert.deepEqual(await editor.complete(uri, end, { invoked: false }), []);
  assert.equal(mesh.tokenizer.calls.infill, 0);
  await configure({ quern: { enabled: true } });
  assert.equal((await editor.complete(uri, end))[0]?.insertText, 'answer()');
  await configure({ quern: { gateway: '127.0.0.1:1' } });
  assert.deepEqual(await editor.complete(uri, end), [], 'another gateway is used at once');
});

test('an editor without inline completion gets the plain list', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('return 6 * 7') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, capabilities: { textDocument: {} } });
  assert(editor.initialized.capabilities.completionProvider);
  await editor.open(uri, 'def answer():\n    \n');
  const params = { textDocument: { uri }, position: { line: 1, character: 4 }, context: { triggerKind: 1 } };
  const list = (await editor.connection.sendRequest('textDocument/completion', params)) as CompletionList;
  assert.equal(list.isIncomplete, true);
  const [item] = list.items;
  assert.equal(item?.label, 'return 6 * 7');
  const range = { start: { line: 1, character: 4 }, end: { line: 1, character: 4 } };
  assert.deepEqual(item?.textEdit, { range, newText: 'return 6 * 7' });
  const inline = await startEditor(t, { gateway: mesh.gateway.grpcAddress });
  assert.equal(inline.initialized.capabilities.completionProvider, undefined, 'with both it would be asked twice');
});

test('other open files of the workspace go beside the prompt, secret and ignored ones do not', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'quern-lsp-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  writeFileSync(join(root, '.gitignore'), 'generated.py\n');
  const at = (name: string): string => pathToFileURL(join(root, name)).href;
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, rootUri: pathToFileURL(root).href });
  await editor.open(at('shapes.py'), 'def circle(radius): ...\n');
  await editor.open(at('generated.py'), 'def generated(): ...\n');
  await editor.open(at('.env'), 'PASSWORD=hunter2\n');
  await editor.open(at('main.py'), 'value = \n');
  let prompt = '';
  // What is not collected within a moment is left out of that prompt.
  await eventually(async () => {
    assert.equal((await editor.complete(at('main.py'), end)).length, 1);
    prompt = promptsOf(mesh).at(-1) ?? '';
    return /^shapes\.py\ndef circle\(radius\): \.\.\.\n/.test(prompt);
  }, 'the open file stands before the prompt');
  const asked = mesh.engine.requests.length;
  assert(!prompt.includes('generated') && !prompt.includes('hunter2'), prompt);
  assert.deepEqual(
    await editor.complete(at('.env'), { line: 0, character: 9 }),
    [],
    'nor is a secret file completed in',
  );
  assert.equal(mesh.engine.requests.length, asked);
});

test('signatures of what a file imports go first beside its prompts', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'quern-lsp-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  writeFileSync(join(root, 'shapes.py'), 'def circle(radius: float) -> float:\n    return 3.14 * radius**2\n');
  const main = pathToFileURL(join(root, 'main.py')).href;
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, rootUri: pathToFileURL(root).href });
  await editor.open(main, 'from shapes import circle\nvalue = \n');
  await eventually(async () => {
    await editor.complete(main, { line: 1, character: 8 });
    return promptsOf(mesh).at(-1)?.startsWith('shapes.py\ndef circle(radius: float) -> float: ...\n') === true;
  }, 'the signature stands before the prompt');
  assert(!promptsOf(mesh).at(-1)?.includes('3.14'));
  await editor.open(pathToFileURL(join(root, 'other.py')).href, 'other = 1\n');
  await eventually(async () => {
    await editor.complete(main, { line: 1, character: 8 });
    return mesh.tokenizer.chunks.length === 2;
  }, 'the open file stands behind it');
  assert.deepEqual(
    mesh.tokenizer.chunks.map(({ path, kind }) => [path, kind]),
    [
      ['shapes.py', ChunkKind.CHUNK_KIND_DECLARATION],
      ['other.py', ChunkKind.CHUNK_KIND_OPEN_FILE],
    ],
  );
});

test('each answer has its outcome, and accepted suggestions are counted', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings: { outcomes: true } });
  const outcomes: Outcome[] = [];
  editor.connection.onNotification('quern/outcome', (outcome: Outcome) => {
    outcomes.push(outcome);
  });
  await editor.open(uri, 'value = \n');
  const [item] = await editor.complete(uri, end);
  assert.equal(item?.command?.command, 'quern.accepted');
  await editor.complete('file:///project/other.py', end);
  await eventually(() => outcomes.length === 2, 'two outcomes');
  assert.deepEqual(
    outcomes.map(({ reason, from, count }) => [reason, from, count]),
    [
      [null, 'stream', 1],
      ['STALE', 'none', 0],
    ],
  );
  assert.match(outcomes[0]?.traceId ?? '', /^[0-9a-f]{32}$/);
  const { command = '', arguments: given = [] } = item?.command ?? {};
  await editor.connection.sendRequest('workspace/executeCommand', { command, arguments: given });
  await editor.connection.sendNotification('quern/note', { kind: 'nonsense' });
  const numbers = (await editor.connection.sendRequest('quern/statistics')) as Record<string, unknown>;
  assert.deepEqual(numbers, {
    ...{ answers: 2, fromCache: 0, partial: 0 },
    ...{ reasons: { STALE: 1 }, events: { shown: 1, accepted: 1 } },
  });
});

test('what keeps suggestions away is said once in the log', async (t) => {
  const editor = await startEditor(t, { gateway: '127.0.0.1:1' });
  const messages: string[] = [];
  editor.connection.onNotification('window/logMessage', ({ message }: { message: string }) => {
    messages.push(message);
  });
  await editor.open(uri, 'value = \n');
  await editor.complete(uri, end);
  await editor.complete(uri, end);
  await eventually(() => messages.length > 0, 'a message');
  await editor.connection.sendRequest('quern/statistics'); // what was to come before it has come
  assert.equal(messages.length, 1);
  assert.match(messages[0] ?? '', /no suggestions \(OFFLINE\)/);
});

test('a key that the mesh refuses is said to be the reason', async (t) => {
  const keys = (folder: string): Record<string, string> => {
    writeFileSync(join(folder, 'keys.json'), '{"version": 1, "keys": []}');
    return { QUERN_KEYS_FILE: join(folder, 'keys.json') };
  };
  const mesh = await startMesh(t, { env: keys });
  const settings = { outcomes: true, apiKey: 'qk-none' };
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings });
  const outcome = new Promise<Outcome>((resolve) => {
    editor.connection.onNotification('quern/outcome', resolve);
  });
  await editor.open(uri, 'value = \n');
  await editor.complete(uri, end);
  assert.equal((await outcome).reason, 'UNAUTHENTICATED');
});
