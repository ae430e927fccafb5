// Connections that never ask anything (a browser's spare one, a port check) must not hold up a drain.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf } from './fakes/mock-tokenizer.ts';

const GRACE_MS = 60_000;

async function open(t: TestContext, mesh: TestMesh, bytes: string): Promise<Socket> {
  const { hostname, port } = new URL(mesh.url);
  const socket = connect(Number(port), hostname);
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(bytes);
  return socket;
}

test('a drain closes silent connections at once and lets a running stream end', { timeout: 90_000 }, async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  mesh.engine.settings.script = () => bytesOf('x'.repeat(60));
  const silent = await open(t, mesh, '');
  const half = await open(t, mesh, 'POST /v1/completions HTTP/1.1\r\nhost: 127.0');
  const ended = Promise.all([once(silent, 'close'), once(half, 'close')]);
  const body = JSON.stringify({ prompt: 'x', max_tokens: 60, stream: true });
  const response = await fetch(`${mesh.url}/v1/completions`, { method: 'POST', body });
  assert.equal(response.status, 200);
  const drained = mesh.gateway.drain({ graceMs: GRACE_MS, signal: AbortSignal.timeout(GRACE_MS) });
  const startedAt = performance.now();
  const text = await response.text();
  assert.match(text, /data: \[DONE\]\n\n$/);
  await ended;
  await drained;
  const took = performance.now() - startedAt;
  assert.ok(took < GRACE_MS / 2, `the drain took ${Math.round(took)} ms`);
});
