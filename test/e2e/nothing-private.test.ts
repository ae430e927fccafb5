// A mesh is called in every way with prompts and secrets that can be told apart from all other text; then everything that it left
// (logs, spans, metrics, audit files, stream, ledger) is searched for them.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CompleteRequest, CompletionServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { createKey } from '#kit/keys-file.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';
import { startCollector } from '../support/otlp-collector.ts';
import { type Mesh, startMesh } from './mesh.ts';

/** Nowhere else in the world; no blanks, so that no tokenization or line break hides them. */
const PROMPT = 'zqPlantedPromptKjx';
const SECRETS = {
  salt: 'zqPlantedSaltVwm',
  wrongKey: 'zqPlantedWrongKeyTbn',
  awsKey: 'AKIAZQPLANTED7KJXVWM',
  mail: 'zq.planted@private.example',
};
const TEXT = `${PROMPT} ${SECRETS.awsKey} ${SECRETS.mail}`;

type Place = { where: string; bytes: Buffer };

/** All files below a folder. A further folder of a run is one more line where this is called. */
function filesOf(folder: string): Place[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .map((where) => ({ where, bytes: readFileSync(where) }));
}

/** A needle as it may stand in a file: as it is, and as hex and base64 (at each of the three ways to fall on its groups). */
function formsOf(needle: string): string[] {
  const base64 = [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), Buffer.from(needle), Buffer.alloc(2)]).toString('base64');
    return text.slice(Math.ceil((shift * 4) / 3) + 1, Math.floor(((shift + needle.length) * 4) / 3) - 1);
  });
  return [needle, needle.toLowerCase(), Buffer.from(needle).toString('hex'), ...base64];
}

function leaks(places: readonly Place[], needles: readonly string[]): string[] {
  const forms = needles.flatMap((needle) => formsOf(needle).map((form) => ({ needle, form })));
  return places.flatMap(({ where, bytes }) =>
    forms.flatMap(({ needle, form }) => {
      const at = bytes.indexOf(form);
      if (at < 0) return [];
      return [`"${needle}" in ${where}: …${bytes.subarray(Math.max(0, at - 80), at + 80).toString('latin1')}…`];
    }),
  );
}

async function post(mesh: Mesh, path: string, body: unknown, headers: Record<string, string>): Promise<number> {
  const response = await fetch(`http://${mesh.http}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  await response.arrayBuffer();
  return response.status;
}

/** Calls that succeed and calls that fail: what is refused is where text is quoted most easily. */
async function callEverything(mesh: Mesh, token: string): Promise<void> {
  const auth = { authorization: `Bearer ${token}` };
  const chat = { messages: [{ role: 'user', content: TEXT }], max_tokens: 4 };
  const good: [string, object][] = [
    ['/v1/completions', { prompt: TEXT, max_tokens: 4, stop: [PROMPT], user: SECRETS.mail }],
    ['/v1/completions', { prompt: TEXT, suffix: `${TEXT}\n`, max_tokens: 4 }],
    ['/v1/completions', { prompt: TEXT, max_tokens: 4, stream: true }],
    ['/v1/chat/completions', chat],
    ['/tokenize', { prompt: TEXT }],
  ];
  for (const [path, body] of good) assert.equal(await post(mesh, path, body, auth), 200, path);
  const bad: [string, unknown][] = [
    ['/v1/completions', `{"prompt": "${TEXT}", ${PROMPT}}`],
    ['/v1/completions', `${TEXT}`],
    ['/v1/completions', { prompt: { text: TEXT } }],
    ['/v1/completions', { prompt: TEXT, max_tokens: 'many', [PROMPT]: 1 }],
    ['/v1/completions', { prompt: TEXT, stop: [TEXT, { [PROMPT]: TEXT }] }],
    ['/v1/completions', { prompt: TEXT, temperature: TEXT }],
    ['/v1/chat/completions', { messages: [{ role: TEXT, content: TEXT }] }],
    ['/v1/chat/completions', { messages: TEXT }],
    ['/detokenize', { tokens: [TEXT] }],
    [`/v1/${PROMPT}?api_key=${SECRETS.wrongKey}`, {}],
  ];
  for (const [path, body] of bad) assert.ok((await post(mesh, path, body, auth)) >= 400, JSON.stringify(body));
  const refused = await post(mesh, '/v1/completions', chat, { authorization: `Bearer ${SECRETS.wrongKey}` });
  assert.equal(refused, 401);
  await post(
    mesh,
    '/v1/completions?trace=1',
    { prompt: TEXT, max_tokens: 1 },
    { ...auth, 'x-request-id': 'a-plain-id' },
  );
}

async function callOverGrpc(t: TestContext, mesh: Mesh, token: string): Promise<void> {
  const client = openChannel(CompletionServiceClient, { address: mesh.grpc, sharedToken: token });
  t.after(() => client.close());
  const request = (sampling: object): CompleteRequest => ({
    ...CompleteRequest.decode(new Uint8Array(0)),
    prompt: { $case: 'text', value: TEXT },
    sampling: { ...emptySampling(), maxTokens: 4, ...sampling },
    stop: [PROMPT],
  });
  await unary(client, 'complete', request({}));
  await assert.rejects(unary(client, 'complete', request({ topP: -1 })));
}

/** The metrics of all services once `enough` says so: the audit service needs a moment to have what was asked last. */
async function metricsOf(mesh: Mesh, token: string, enough: (all: Place[]) => boolean): Promise<Place[]> {
  for (let i = 0; ; i += 1) {
    const all = await scrapeAll(mesh, token);
    if (enough(all)) return all;
    assert.ok(i < 100, 'the audit service does not have the records');
    await sleep(100);
  }
}

async function scrapeAll(mesh: Mesh, token: string): Promise<Place[]> {
  const told = mesh.events.flatMap((event) => JSON.stringify(event).match(/http:\/\/[\d.:]+\/metrics/g) ?? []);
  const headers = { authorization: `Bearer ${token}`, accept: 'application/openmetrics-text' };
  return Promise.all(
    [...new Set([`http://${mesh.http}/metrics`, ...told])].map(async (where) => {
      const response = await fetch(where, { headers });
      assert.equal(response.status, 200, where);
      return { where, bytes: Buffer.from(await response.arrayBuffer()) };
    }),
  );
}

test('the search finds what is there, in every form', () => {
  const place = (text: string): Place => ({ where: 'x', bytes: Buffer.from(text) });
  const forms = [TEXT, Buffer.from(TEXT).toString('hex'), Buffer.from(`a${TEXT}`).toString('base64')];
  for (const text of [...forms, Buffer.from(`ab${TEXT}`).toString('base64'), Buffer.from(TEXT).toString('base64')]) {
    assert.ok(leaks([place(`log ${text} line`)], [PROMPT]).length > 0, text);
  }
  assert.deepEqual(leaks([place('zqOther')], [PROMPT, ...Object.values(SECRETS)]), []);
});

test('neither prompts nor secrets are in anything that a run leaves', { timeout: 120_000 }, async (t) => {
  const state = mkdtempSync(join(tmpdir(), 'quern-private-'));
  t.after(() => rmSync(state, { recursive: true, force: true }));
  const keysFile = join(mkdtempSync(join(tmpdir(), 'quern-private-keys-')), 'keys.json');
  t.after(() => rmSync(join(keysFile, '..'), { recursive: true, force: true }));
  const { token } = await createKey(keysFile, { tenant: 'acme', user: 'ada', role: 'admin' });
  const collector = await startCollector(t);
  const mesh = await startMesh(t, {
    audit: true,
    env: {
      QUERN_STATE_DIR: state,
      QUERN_KEYS_FILE: keysFile,
      QUERN_GATEWAY_SALT_SECRET: SECRETS.salt,
      QUERN_LOG_LEVEL: 'trace',
      QUERN_OTLP_ENDPOINT: collector.url,
    },
  });
  await callEverything(mesh, token);
  await callOverGrpc(t, mesh, token);
  const metrics = await metricsOf(mesh, token, (all) =>
    all.some(({ bytes }) => /^quern_audit_ledger_records\{[^}]*\} [1-9]\d$/m.test(bytes.toString())),
  );
  assert.equal(await mesh.stop(), 0);

  const text = (where: string, value: unknown): Place => ({
    where,
    bytes: Buffer.from(JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? String(one) : one)) ?? ''),
  });
  const places = [
    ...metrics,
    ...filesOf(state),
    text('spans', collector.spans),
    text('what quern up printed', [mesh.events, mesh.stderr()]),
  ];
  assert.ok(metrics.length >= 3, 'gateway, engine and audit were scraped');
  for (const part of ['outbox/gateway', 'audit/ledger', 'audit/view.sqlite', 'nats/', 'logs/']) {
    const found = places.some(({ where, bytes }) => where.startsWith(join(state, part)) && bytes.length > 0);
    assert.ok(found, `nothing under ${part} to search: ${places.map(({ where }) => where).join(', ')}`);
  }
  assert.ok(collector.spans.length > 20, `${collector.spans.length} spans`);
  const secretOfKey = token.split('_').at(-1) as string;
  assert.deepEqual(leaks(places, [PROMPT, secretOfKey, ...Object.values(SECRETS)]), []);

  const lines = readFileSync(join(state, 'logs/up.log'), 'utf8').trim().split('\n');
  const own = lines.filter((line) => !/^\[\d+\] \d{4}\/\d\d\/\d\d /.test(line)); // nats-server has a form of its own
  const logged = own.map((line) => JSON.parse(line) as Record<string, unknown>);
  for (const line of logged) {
    for (const field of ['level', 'time', 'pid', 'service', 'msg'])
      assert.ok(line[field] !== undefined, JSON.stringify(line));
  }
  const calls = logged.filter(
    ({ msg, path, method }) =>
      (msg === 'http' && String(path).startsWith('/v1/')) ||
      (msg === 'rpc' && String(method).startsWith('quern.gateway')),
  );
  assert.ok(calls.length >= 15, `${calls.length} lines of calls`);
  for (const call of calls) {
    assert.match(String(call.trace_id), /^[0-9a-f]{32}$/, JSON.stringify(call));
    assert.ok(typeof call.duration_ms === 'number' && typeof call.peer === 'string', JSON.stringify(call));
  }
  const named = calls.filter(({ request_id: id }) => id === 'a-plain-id');
  assert.equal(named.length, 1, 'one line per request');
  assert.ok(
    collector.spans.some(({ traceId }) => traceId === named[0]?.trace_id),
    'the line leads to the trace',
  );
});
