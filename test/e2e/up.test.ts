/** `quern up` as a user meets it: one command to a served completion, crashes healed, mistakes answered in a sentence. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { quern, startMesh } from './mesh.ts';

async function completeOverHttp(
  http: string,
  body: object,
): Promise<{ status: number; json: Record<string, never> & { choices: { text: string }[] } }> {
  const response = await fetch(`http://${http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, json: (await response.json()) as never };
}

test('a mesh serves over gRPC and HTTP, and both give the same greedy text', async (t) => {
  const mesh = await startMesh(t);
  const prompt = 'def add(a, b):\n    return';
  const { status, json } = await completeOverHttp(mesh.http, { prompt, max_tokens: 24, temperature: 0 });
  assert.equal(status, 200);
  const overHttp = json.choices[0]?.text;
  assert.ok(overHttp !== undefined && overHttp.length > 0);

  const gateway = ['--gateway', mesh.grpc];
  const complete = await quern(['complete', ...gateway, '--max-tokens', '24', '--temperature', '0', prompt]);
  assert.equal(complete.code, 0, complete.stderr);
  assert.equal(complete.stdout, `${overHttp}\n`);
  assert.match(complete.stderr, /tokens in \d+ ms \(queue/);

  const models = await quern(['models', ...gateway, '--json']);
  assert.equal(models.code, 0, models.stderr);
  const [model] = JSON.parse(models.stdout) as { name: string; ready: boolean; chat: boolean; fim_family: string }[];
  assert.equal(model?.name, 'quern-mini');
  assert.equal(model?.ready, true);

  const health = await fetch(`http://${mesh.http}/health`);
  assert.equal(health.status, 200);
  await health.text();

  const call = await quern(['call', ...gateway, 'ModelService/ListModels', '{}']);
  assert.equal(call.code, 0, call.stderr);
  assert.match(call.stdout, /"name":"quern-mini"/);
  assert.equal(await mesh.stop(), 0);
});

test('an engine killed in mid-flight is restarted, and the mesh serves again', async (t) => {
  const mesh = await startMesh(t);
  const started = mesh.events.find(({ event, name }) => event === 'started' && name === 'engine');
  assert.ok(typeof started?.pid === 'number', JSON.stringify(mesh.events));
  process.kill(started.pid, 'SIGKILL');
  const exited = await mesh.seen(({ event, name }) => event === 'exited' && name === 'engine');
  assert.match(String(exited.reason), /^killed \(SIGKILL\), .* out of memory; /);
  await mesh.seen(({ event, name, pid }) => event === 'started' && name === 'engine' && pid !== started.pid);
  const deadline = Date.now() + 30_000;
  for (;;) {
    const { status } = await completeOverHttp(mesh.http, { prompt: 'x = ', max_tokens: 4, temperature: 0 }).catch(
      () => ({ status: 0 }),
    );
    if (status === 200) break;
    assert.ok(Date.now() < deadline, `still ${status} 30 s after the restart`);
    await sleep(200);
  }
  assert.equal(await mesh.stop(), 0);
});

test('a taken port, a wrong folder and an unknown option end at once with one sentence', async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const taken = await quern(['up', '--http', `127.0.0.1:${address.port}`, '--grpc', '127.0.0.1:0']);
  assert.notEqual(taken.code, 0);
  assert.match(taken.stderr, new RegExp(`^quern: port ${address.port} is taken: .*--http HOST:PORT\n$`));

  const folder = await quern(['up', '--model', '/no/such/model', '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0']);
  assert.notEqual(folder.code, 0);
  assert.match(
    folder.stderr,
    /^quern: model model: expected a Hugging Face model folder, but \/no\/such\/model does not exist\n$/,
  );

  const option = await quern(['up', '--prot', '1']);
  assert.equal(option.code, 2);
  assert.match(option.stderr, /--prot.*known options: .*--http/);
});

test('client commands say when no mesh answers', async () => {
  const models = await quern(['models', '--gateway', '127.0.0.1:1']);
  assert.equal(models.code, 1);
  assert.match(models.stderr, /^quern: no mesh answers at 127\.0\.0\.1:1(; start one with "npm start"|, but )/);
});
