/** A client that goes away stops the engine: seen on the engine itself, over the socket that the gateway uses. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until, watchEngine } from './engine-watch.ts';
import { quern, spawnQuern, startMesh } from './mesh.ts';

const FREED_WITHIN_MS = 30_000; // for a loaded machine; the step-exact check is in test/contract/engine

/** False for a process that is gone, or dead and not yet collected. */
function isRunning(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

function longRequest(http: string, signal: AbortSignal, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`http://${http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ prompt: 'def f():', max_tokens: 1_500, temperature: 0, ignore_eos: true, stream: true }),
    signal,
  });
}

test('a closed connection, a cancel by id and Ctrl-C each free the slot and all blocks', async (t) => {
  const mesh = await startMesh(t);
  const load = watchEngine(t, mesh);

  const gone = new AbortController();
  const response = await longRequest(mesh.http, gone.signal);
  const reader = response.body?.getReader();
  assert.ok((await reader?.read())?.value !== undefined);
  await until(load, ({ running }) => running === 1, 60_000);
  gone.abort();
  const freed = await until(load, ({ running }) => running === 0, FREED_WITHIN_MS);
  assert.equal(freed.kvUsage, 0);
  const later = await sleep(100).then(load);
  assert.equal(later.steps, freed.steps, 'the engine kept stepping for a client that is gone');
  assert.ok(freed.steps < 1_400n, 'it ran to its own end');

  const other = new AbortController();
  t.after(() => other.abort());
  const byId = await longRequest(mesh.http, other.signal, { 'x-request-id': 'to-cancel' });
  await until(load, ({ running }) => running === 1, 60_000);
  const cancel = await quern(['call', '--gateway', mesh.grpc, 'RequestService/Cancel', '{"request_id": "to-cancel"}']);
  assert.equal(cancel.stdout, '{"cancelled":true}\n', cancel.stderr);
  await until(load, ({ running }) => running === 0, FREED_WITHIN_MS);
  assert.match(await byId.text(), /"finish_reason":"[a-z]+"/);

  const terminal = spawnQuern(['complete', '--gateway', mesh.grpc, '--max-tokens', '1500', 'def g():']);
  await until(load, ({ running }) => running === 1, 60_000);
  terminal.kill('SIGINT');
  await until(load, ({ running }) => running === 0, FREED_WITHIN_MS);
  assert.equal(await mesh.stop(), 0);
});

test('a drain lets what runs finish and refuses what is new', async (t) => {
  const mesh = await startMesh(t);
  const response = await fetch(`http://${mesh.http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'def f():', max_tokens: 300, temperature: 0, ignore_eos: true, stream: true }),
  });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  assert.ok(reader !== undefined);
  let text = (await reader.read()).value ?? '';
  const stopped = mesh.stop();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) text += piece.value;
  assert.match(text, /"finish_reason":"length"/);
  assert.match(text, /data: \[DONE\]\n\n$/);
  assert.equal(await stopped, 0);
  await assert.rejects(fetch(`http://${mesh.http}/health`));
});

test('two models are two engine processes behind one gateway', async (t) => {
  const dir = new URL('../../models/quern-mini', import.meta.url).pathname;
  const mesh = await startMesh(t, { args: ['--model', `one=${dir}`, '--model', `two=${dir}`] });
  const models = await quern(['models', '--gateway', mesh.grpc, '--json']);
  const names = (JSON.parse(models.stdout) as { name: string }[]).map(({ name }) => name);
  assert.deepEqual(names.sort(), ['one', 'two']);
  const texts = await Promise.all(
    names.map((name) => quern(['complete', '--gateway', mesh.grpc, '--model', name, '--max-tokens', '8', 'import '])),
  );
  assert.deepEqual(
    texts.map(({ code }) => code),
    [0, 0],
    texts.map(({ stderr }) => stderr).join(),
  );
  assert.equal(texts[0]?.stdout, texts[1]?.stdout);
  const none = await quern(['complete', '--gateway', mesh.grpc, 'import ']);
  assert.equal(none.code, 2);
  assert.match(none.stderr, /model/);
  const unknown = await quern(['complete', '--gateway', mesh.grpc, '--model', 'three', 'import ']);
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /three/);
});

test('a second signal ends everything at once, in the middle of a stream', async (t) => {
  const mesh = await startMesh(t);
  const pids = mesh.events.filter(({ event }) => event === 'started').map(({ pid }) => Number(pid));
  assert.equal(pids.length, 3);
  const client = new AbortController();
  t.after(() => client.abort());
  const response = await longRequest(mesh.http, client.signal);
  const ended = response.text().catch(() => 'cut');
  mesh.child.kill('SIGTERM');
  await mesh.seen(({ event }) => event === 'draining');
  await sleep(400);
  const again = performance.now();
  mesh.child.kill('SIGTERM');
  await mesh.stop();
  await ended;
  assert.ok(performance.now() - again < 10_000, 'a second signal still waited for the drain');
  for (const pid of pids) {
    for (let tries = 0; isRunning(pid); tries++) {
      assert.ok(tries < 1_000, `process ${pid} is still there`);
      await sleep(20);
    }
  }
});
