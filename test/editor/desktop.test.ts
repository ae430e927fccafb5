/** The desktop's entry, bundled as it is packed: VS Code is a stub, and the language server a process before a real gateway. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { TextDocument } from 'vscode';
import { createKey } from '#kit/keys-file.ts';
import { KEY_MARK } from '../../clients/vscode/ui/key-in-transit.ts';
import { buildExtension } from '../../scripts/vscode-extension.mjs';
import { eventually, startMesh } from '../contract/gateway/fakes/mesh.ts';
import { at } from '../unit/clients/vscode/support/stub-api.ts';
import { startDesktop } from './support/desktop-host.ts';
import { scriptOf } from './support/scripted-model.ts';

const TEXT = 'area = ';
const PATIENCE_MS = 60_000;

const document = {
  ...{ languageId: 'python', version: 1, lineCount: 1, isClosed: false, fileName: '/project/area.py' },
  uri: { scheme: 'file', fsPath: '/project/area.py', toString: () => 'file:///project/area.py' },
  getText: () => TEXT,
} as unknown as TextDocument;

type Door = { address: string; came: () => number };

/** A port before the gateway's socket that counts who comes. */
async function openDoor(t: TestContext, socket: string): Promise<Door> {
  let came = 0;
  const door = createServer((visitor) => {
    came += 1;
    const inside = connect(socket.replace(/^unix:\/\//, ''));
    for (const end of [visitor, inside]) end.on('error', () => [visitor, inside].map((one) => one.destroy()));
    visitor.pipe(inside).pipe(visitor);
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
  t.after(() => door.close());
  return { address: `127.0.0.1:${(door.address() as AddressInfo).port}`, came: () => came };
}

test('on a desktop the key reaches the mesh and no log, off is off, and a server that dies is started again', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-desktop-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const extension = await buildExtension(join(folder, 'extension'));
  const keys = join(folder, 'keys.json');
  const { token } = await createKey(keys, { tenant: 'acme', user: 'ada' });
  const script = scriptOf([[TEXT, 'width * height\n']]);
  const mesh = await startMesh(t, { engine: { script }, env: { QUERN_KEYS_FILE: keys } });
  const door = await openDoor(t, mesh.gateway.grpcAddress);
  const settings = { gateway: door.address, softDeadlineMs: 60_000, hardDeadlineMs: 60_000 };
  const verbose = { 'trace.server': 'verbose' };
  const desktop = await startDesktop(t, extension, { ...settings, ...verbose, enabled: false }, document);
  const { stub } = desktop;
  const ask = () => desktop.suggestions(at(0, TEXT.length));
  const ready = () => eventually(() => /sparkle|warning/.test(stub.item.text), 'it is ready', PATIENCE_MS);

  // Off from the start.
  assert.deepEqual(await ask(), []);
  assert.match(stub.item.text, /circle-slash/);
  await stub.run('quern.trigger');
  assert.equal(door.came(), 0, 'turned off, the mesh was called');
  await stub.run('quern.toggle');
  await ready();
  assert.deepEqual(await ask(), []);
  assert.match(String(stub.item.tooltip), /UNAUTHENTICATED/);
  assert(door.came() > 0, 'what is counted is how the mesh is reached');
  assert.equal(mesh.engine.requests.length, 0);

  stub.answers.push(token);
  await stub.run('quern.setApiKey');
  await eventually(
    async () => (await ask())[0] === 'width * height',
    'with the key there is a suggestion',
    PATIENCE_MS,
  );
  const [pid = 0, ...others] = desktop.servers();
  assert.deepEqual(others, []);
  process.kill(pid, 'SIGKILL');
  await eventually(() => desktop.servers().some((one) => one !== pid), 'another is started', PATIENCE_MS);
  await ready();
  await eventually(async () => (await ask())[0] === 'width * height', 'the other has the key, too', PATIENCE_MS);

  const log = desktop.log();
  assert.match(log, /Sending response 'workspace\/configuration/);
  assert(log.includes(KEY_MARK) && !log.includes(token), 'the key is in the log');
});
