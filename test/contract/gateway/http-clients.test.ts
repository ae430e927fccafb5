// Who calls the HTTP front door, from where and how: keys, foreign pages, clients that go away, do not read or speak no HTTP.
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { createKey } from '#kit/keys-file.ts';
import { HTTP_BODY_BYTES_MAX } from '../../../services/gateway/limits.ts';
import { post } from './fakes/http-calls.ts';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';

/** fetch does not let one choose Host. */
function rawGet(mesh: TestMesh, path: string, headers: Record<string, string>): Promise<number> {
  const { hostname, port } = new URL(mesh.url);
  return new Promise((resolve, reject) => {
    httpRequest({ hostname, port, path, headers }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    })
      .on('error', reject)
      .end();
  });
}

test('a body that is too large is refused, announced or not', async (t) => {
  const mesh = await startMesh(t);
  const { hostname, port } = new URL(mesh.url);
  const answer = (headers: Record<string, string>, size: number): Promise<number> =>
    new Promise((resolve, reject) => {
      const request = httpRequest({ hostname, port, path: '/v1/completions', method: 'POST', headers }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      request.on('error', (error: NodeJS.ErrnoException) =>
        error.code === 'EPIPE' || error.code === 'ECONNRESET' ? undefined : reject(error),
      );
      request.end(Buffer.alloc(size, 0x20));
    });
  assert.equal(await answer({ 'content-length': String(HTTP_BODY_BYTES_MAX + 1) }, 1), 413);
  assert.equal(await answer({ 'transfer-encoding': 'chunked' }, HTTP_BODY_BYTES_MAX + 1), 413);
});

test('DNS rebinding: foreign Host and Origin are refused, loopback names pass, no CORS', async (t) => {
  const mesh = await startMesh(t);
  const { port } = new URL(mesh.url);
  assert.equal(await rawGet(mesh, '/v1/models', { host: `evil.example:${port}` }), 403);
  assert.equal(await rawGet(mesh, '/v1/models', { host: `localhost:${port}` }), 200);
  assert.equal(await rawGet(mesh, '/v1/models', { host: `[::1]:${port}` }), 200);
  assert.equal(await rawGet(mesh, '/v1/models', { origin: 'https://evil.example' }), 403);
  assert.equal(await rawGet(mesh, '/v1/models', { origin: 'null' }), 403);
  assert.equal(await rawGet(mesh, '/v1/models', { origin: 'http://localhost:3000' }), 200);
  const response = await fetch(`${mesh.url}/v1/models`);
  assert.equal(response.headers.get('access-control-allow-origin'), null);
  const named = await startMesh(t, { env: { QUERN_GATEWAY_ALLOWED_HOSTS: 'quern.lan' } });
  assert.equal(await rawGet(named, '/v1/models', { host: 'quern.lan', origin: 'https://quern.lan' }), 200);
});

test('CORS: pages that are named may read answers, after a preflight; others may not', async (t) => {
  const page = 'https://code.example';
  const mesh = await startMesh(t, { env: { QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS: `${page},http://localhost:3000` } });
  const asked = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' };
  const preflight = (headers: Record<string, string>): Promise<Response> =>
    fetch(`${mesh.url}/infill`, { method: 'OPTIONS', headers });
  const allowed = await preflight({ origin: page, ...asked });
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers.get('access-control-allow-origin'), page);
  assert.match(allowed.headers.get('access-control-allow-headers') ?? '', /authorization.*traceparent/);
  assert.equal(allowed.headers.get('access-control-allow-credentials'), null);
  const answer = await fetch(`${mesh.url}/v1/models`, { headers: { origin: page } });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('access-control-allow-origin'), page);
  assert.equal(answer.headers.get('vary'), 'origin');
  assert.match(answer.headers.get('access-control-expose-headers') ?? '', /x-trace-id/);
  assert.match(answer.headers.get('x-trace-id') ?? '', /^[0-9a-f]{32}$/);
  // Another port, another scheme or an unnamed loopback page: as without the setting.
  for (const origin of ['https://code.example:8443', 'http://code.example', 'https://evil.example']) {
    const refused = await preflight({ origin, ...asked });
    assert.deepEqual([refused.status, refused.headers.get('access-control-allow-origin')], [403, null], origin);
  }
  const unnamed = await preflight({ origin: 'http://localhost:4000', ...asked });
  assert.deepEqual([unnamed.status, unnamed.headers.get('access-control-allow-origin')], [405, null]);
});

test('keys over HTTP: Bearer and x-api-key, 401 without, open health and metrics', async (t) => {
  const plain = await startMesh(t);
  const path = join(plain.folder, 'keys.json');
  const { token } = await createKey(path, { tenant: 'acme', user: 'ada' });
  const mesh = await startMesh(t, { env: { QUERN_KEYS_FILE: path } });
  const body = { prompt: 'x', max_tokens: 1 };
  const refused = await post(mesh, '/v1/completions', body);
  assert.deepEqual([refused.status, refused.json.error?.code], [401, 'invalid_api_key']);
  assert.equal(refused.headers.get('www-authenticate'), 'Bearer');
  assert.equal((await post(mesh, '/v1/completions', body, { authorization: `Bearer ${token}` })).status, 200);
  assert.equal((await post(mesh, '/v1/completions', body, { 'x-api-key': token })).status, 200);
  assert.equal((await fetch(`${mesh.url}/health`)).status, 200);
  const metrics = await (await fetch(`${mesh.url}/metrics`)).text();
  assert.match(metrics, /quern_gateway_requests_total\{[^}]*outcome="length"[^}]*\} 2/);
  assert.match(metrics, /quern_gateway_requests_running\{[^}]*\} 0/);
  assert.match(metrics, /gen_ai_server_time_to_first_token_seconds_count\{[^}]*\} 2/);
  assert.match(
    metrics,
    /quern_gateway_http_requests_total\{[^}]*handler="\/v1\/completions"[^}]*status="401"[^}]*\} 1/,
  );
  assert.match(metrics, /# TYPE quern_itl_seconds histogram/);
  assert.doesNotMatch(metrics, /acme/, 'whoever reaches the port does not learn who the tenants are');
  const scraper = await createKey(path, { tenant: 'ops', user: 'prometheus', role: 'service' });
  const headers = { authorization: `Bearer ${scraper.token}`, accept: 'application/openmetrics-text' };
  await eventually(async () => {
    const own = await (await fetch(`${mesh.url}/metrics`, { headers })).text();
    return /quern_gateway_tenant_requests_total\{tenant="acme",outcome="length"[^}]*\} 2[\s\S]*# EOF\n$/.test(own);
  }, 'a key of role service sees the tenants');
  const user = await fetch(`${mesh.url}/metrics`, { headers: { authorization: `Bearer ${token}` } });
  assert.doesNotMatch(await user.text(), /acme/);
});

test('a client that goes away cancels, while it streams and while it waits', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 5 } });
  for (const stream of [true, false]) {
    const controller = new AbortController();
    const body = JSON.stringify({ prompt: 'x', max_tokens: 4000, stream });
    const work = fetch(`${mesh.url}/v1/completions`, { method: 'POST', body, signal: controller.signal }).then((r) =>
      r.text(),
    );
    await eventually(() => mesh.engine.live === 1, 'running');
    controller.abort();
    await assert.rejects(work);
    await eventually(() => mesh.engine.live === 0 && mesh.gateway.context.admission.requests === 0, 'gone');
  }
});

test('a client that does not read: deltas merge, nothing is lost, memory is bounded by the answer', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 0, contextLength: 200_000 } });
  const { hostname, port } = new URL(mesh.url);
  const TOKENS = 15_000; // some 9 MB of events: more than sockets hold
  const body = JSON.stringify({ prompt: 'x', max_tokens: TOKENS, stream: true, logprobs: 5 });
  const socket = connect(Number(port), hostname);
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
  );
  socket.pause();
  // However slow the machine is: as long as the engine steps, it is waited for.
  const isDone = (): boolean => mesh.engine.requests.length === 1 && mesh.engine.live === 0;
  while (!isDone()) {
    const { steps } = mesh.engine;
    await eventually(() => isDone() || mesh.engine.steps > steps, 'the engine goes on', 20_000);
  }
  let raw = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk) => {
    raw += chunk;
  });
  socket.resume();
  await new Promise((resolve) => socket.once('close', resolve));
  const payloads = raw
    .split('data: ')
    .slice(1)
    .map((part) => part.split('\n\n')[0] ?? '');
  assert.equal(payloads.at(-1), '[DONE]');
  const chunks = payloads.slice(0, -1).map((p) => JSON.parse(p.replaceAll(/\r\n[0-9a-f]+\r\n/g, '')));
  const text = chunks.map((c) => c.choices[0].text).join('');
  assert.equal(text.length, TOKENS);
  assert.ok(chunks.length < TOKENS - 500, `${chunks.length} chunks for ${TOKENS} tokens`);
});

test('malformed HTTP is answered and closed', async (t) => {
  const mesh = await startMesh(t);
  const { hostname, port } = new URL(mesh.url);
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    const socket = connect(Number(port), hostname, () => socket.write('NOT HTTP\r\n\r\n'));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('close', () => resolve(text));
  });
  assert.match(answer, /^HTTP\/1\.1 400 /);
});

test('admission sheds with 429 and Retry-After', async (t) => {
  const mesh = await startMesh(t, { engine: { stepMs: 20 }, env: { QUERN_GATEWAY_MAX_REQUESTS: '2' } });
  const controller = new AbortController();
  const body = JSON.stringify({ prompt: 'x', max_tokens: 4000 });
  const running = [1, 2].map(() =>
    fetch(`${mesh.url}/v1/completions`, { method: 'POST', body, signal: controller.signal }).catch(() => null),
  );
  await eventually(() => mesh.engine.live === 2, 'two run');
  const shed = await post(mesh, '/v1/completions', { prompt: 'x' });
  assert.deepEqual(
    [shed.status, shed.headers.get('retry-after'), shed.json.error?.type],
    [429, '1', 'rate_limit_error'],
  );
  controller.abort();
  await Promise.all(running);
});

test('misspelt fields are told in the head of every answer, streamed and refused ones too, and nothing else is', async (t) => {
  const mesh = await startMesh(t);
  const told = async (path: string, body: object): Promise<[number, string | null]> => {
    const { status, headers } = await post(mesh, path, body);
    return [status, headers.get('x-quern-unknown-fields')];
  };
  const messages = [{ role: 'user', content: 'x' }];
  const meant = 'max_token=max_tokens, temperatur=temperature';
  const wrong = { max_token: 3, temperatur: 0 };
  assert.deepEqual(await told('/v1/completions', { prompt: 'x', ...wrong }), [200, meant]);
  assert.deepEqual(await told('/v1/completions', { prompt: 'x', ...wrong, top_p: 7 }), [400, meant]);
  assert.deepEqual(await told('/v1/chat/completions', { messages, max_tokens: 3, metadata: {}, store: true }), [
    200,
    null,
  ]);
  assert.deepEqual(await told('/generate', { prompt: 'x', max_tokens: 3 }), [200, 'max_tokens']);
  const place = { input_prefix: 'x', input_suffix: '' };
  assert.deepEqual(await told('/infill', { ...place, n_predic: 3 }), [200, 'n_predic=n_predict']);
  assert.deepEqual(await told('/tokenize', { promt: 'x' }), [400, 'promt=prompt']);
  const body = JSON.stringify({ messages, stream: true, max_token: 3 });
  const streamed = await fetch(`${mesh.url}/v1/chat/completions`, { method: 'POST', body });
  assert.equal(streamed.headers.get('x-quern-unknown-fields'), 'max_token=max_tokens');
  assert.match(await streamed.text(), /\[DONE\]/);
});
