/** quern-lsp before addresses where no mesh is, or not yet: what the log says, and how soon a mesh that comes is found. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { eventually, startMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf } from '../gateway/fakes/mock-tokenizer.ts';
import { type Editor, type EditorOptions, startEditor } from './support/editor.ts';

const uri = 'file:///project/answer.py';
const end = { line: 0, character: 8 };

/** An editor with a document open, and what the server logs. */
async function startLogged(t: TestContext, options: EditorOptions): Promise<{ editor: Editor; log: string[] }> {
  const editor = await startEditor(t, options);
  const log: string[] = [];
  editor.connection.onNotification('window/logMessage', ({ message }: { message: string }) => void log.push(message));
  await editor.open(uri, 'value = \n');
  return { editor, log };
}

/** Listens at a path or on a free port until the test ends, and hangs up on everybody then. */
async function listen(t: TestContext, server: Server, path?: string): Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => {
    if (path === undefined) server.listen(0, '127.0.0.1', resolve);
    else server.listen(path, resolve);
  });
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
}

test('asked by hand, a mesh that has come back is used at once, however long the connection would have waited', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const folder = mkdtempSync(join(tmpdir(), 'quern-lsp-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'gateway.sock');
  let tries = 0;
  const nobody = createServer((socket) => {
    tries++;
    socket.destroy();
  });
  await listen(t, nobody, path);
  const { editor } = await startLogged(t, { gateway: `unix://${path}` });
  assert.deepEqual(await editor.complete(uri, end), []);
  // By itself it tries again after pauses that grow: the next one is about a second.
  await eventually(() => tries > 5, 'it has tried again some times', 60_000);
  unlinkSync(path);
  symlinkSync(mesh.gateway.grpcAddress.replace('unix://', ''), path);
  const items = await editor.complete(uri, end);
  assert.equal(items[0]?.insertText, 'answer()', 'the first question');
  assert.equal(
    (await editor.complete(uri, { line: 0, character: 7 }, { invoked: false })).length,
    1,
    'typing is answered again too',
  );
});

test('turned off, the connection is ended too', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const folder = mkdtempSync(join(tmpdir(), 'quern-lsp-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'gateway.sock');
  const open = new Set<Socket>();
  const door = createServer((socket) => {
    open.add(socket);
    const inner = connect(mesh.gateway.grpcAddress.replace('unix://', ''));
    for (const one of [socket, inner]) one.on('error', () => undefined);
    socket.pipe(inner).pipe(socket);
    socket.once('end', () => open.delete(socket)).once('close', () => inner.destroy());
    // Whoever is piped into what is closed is not read any more, and would not be heard to end.
    inner.once('close', () => socket.resume());
  });
  await listen(t, door, path);
  const { editor } = await startLogged(t, { gateway: `unix://${path}` });
  assert.equal((await editor.complete(uri, end)).length, 1);
  assert.equal(open.size, 1);
  await editor.connection.sendNotification('workspace/didChangeConfiguration', { settings: { enabled: false } });
  await eventually(() => open.size === 0, 'the connection is ended');
  await editor.connection.sendNotification('workspace/didChangeConfiguration', { settings: { enabled: true } });
  assert.equal((await editor.complete(uri, end)).length, 1, 'turned on again');
});

test('what keeps suggestions away is a sentence: nobody there, no gRPC, no such host, no key', async (t) => {
  const http = createHttp((_, response) => response.end('a page'));
  await listen(t, http);
  const { port } = http.address() as AddressInfo;
  for (const [gateway, sentence] of [
    ['127.0.0.1:1', /\(OFFLINE\): no mesh answers at 127\.0\.0\.1:1; start one with "npm start"/],
    [`127.0.0.1:${port}`, /\(OFFLINE\): what listens at 127\.0\.0\.1:\d+ does not speak gRPC \(an HTTP port\?\)/],
    [`https://127.0.0.1:${port}`, /\(OFFLINE\): what listens at 127\.0\.0\.1:\d+ does not speak TLS/],
    ['quern.invalid:1', /\(OFFLINE\): no host is called "quern\.invalid"/],
  ] as const) {
    const { editor, log } = await startLogged(t, { gateway });
    assert.deepEqual(await editor.complete(uri, end), []);
    await eventually(() => log.length > 0, `${gateway}: it is told`);
    assert.match(log[0] ?? '', sentence);
    assert.doesNotMatch(log.join(), /No connection established|Resolution note|\b14\b/);
  }
});
