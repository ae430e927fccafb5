import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { checkSocketPath, ensurePrivateDir, prepareSocketPath, runtimeDir } from '#kit/rpc/socket-path.ts';

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'quern-kit-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

test('the runtime folder is under XDG_RUNTIME_DIR or /tmp, one per mesh, and short', () => {
  assert.match(runtimeDir({ seed: '/a', xdgRuntimeDir: '/run/user/7' }), /^\/run\/user\/7\/quern-[0-9a-f]{12}$/);
  assert.match(runtimeDir({ seed: '/a', uid: 7 }), /^\/tmp\/quern-7-[0-9a-f]{12}$/);
  assert.notEqual(runtimeDir({ seed: '/a' }), runtimeDir({ seed: '/b' }));
  checkSocketPath(join(runtimeDir({ seed: 'x'.repeat(500) }), 'tokenizer.sock'));
});

test('a path over 107 bytes is refused with its length, also when the characters are fewer', () => {
  checkSocketPath(`/${'a'.repeat(106)}`);
  assert.throws(() => checkSocketPath(`/${'a'.repeat(107)}`), { message: /at most 107 bytes, got 108/ });
  assert.throws(() => checkSocketPath(`/${'é'.repeat(60)}`), { details: { reason: 'SOCKET_PATH_TOO_LONG' } });
});

test('the folder is created 0700; one that others can enter is refused', async (t) => {
  const path = join(await folder(t), 'a', 'b');
  await ensurePrivateDir(path);
  assert.equal((await stat(path)).mode & 0o777, 0o700);
  await chmod(path, 0o750);
  await assert.rejects(ensurePrivateDir(path), { message: /expected mode 0700, got 0750/ });
});

test('a folder of another owner is refused', {
  skip: process.getuid?.() === 0 ? false : 'needs root to see one',
}, async (t) => {
  const path = join(await folder(t), 'theirs');
  await mkdir(path, { mode: 0o700 });
  const { chown } = await import('node:fs/promises');
  await chown(path, 65534, 65534);
  await assert.rejects(ensurePrivateDir(path), { message: /expected owner uid 0, got 65534/ });
});

test('a file that is no socket is left alone', async (t) => {
  const path = join(await folder(t), 's.sock');
  await writeFile(path, 'precious');
  await assert.rejects(prepareSocketPath(path), { details: { reason: 'SOCKET_PATH_TAKEN' } });
  assert.equal((await stat(path)).size, 8);
});

test('a living listener is not robbed of its socket', async (t) => {
  const path = join(await folder(t), 's.sock');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  await assert.rejects(prepareSocketPath(path), { details: { reason: 'SOCKET_IN_USE' } });
});
