// What the gateway records of each request, and that nothing of an answer leaves before its record is on disk.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { InfillRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { openVault } from '#kit/audit/key-folder.ts';
import { QuernError } from '#kit/errors.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import type { SpanRecord } from '#kit/trace.ts';
import { named, recordsIn } from './fakes/audit-records.ts';
import { audited, code, completeRequest, drain, ended, post } from './fakes/audited-mesh.ts';
import { faultyDisk } from './fakes/faulty-disk.ts';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';

const EMPTY = new Uint8Array(0);

test('one accepted and one finished record, through every door', async (t) => {
  const mesh = await audited(t);
  const request = completeRequest();
  await unary(mesh.completion, 'complete', request, { timeoutMs: 20_000 });
  await drain(serverStream(mesh.completion, 'streamComplete', { request }));
  const infill = { ...InfillRequest.decode(EMPTY), prefix: 'a', suffix: 'b' };
  await drain(serverStream(mesh.completion, 'infill', infill));
  const messages = [{ role: 'user', content: 'hello' }];
  for (const [path, body] of [
    ['/v1/completions', { prompt: 'x', max_tokens: 4 }],
    ['/v1/completions', { prompt: 'x', max_tokens: 4, stream: true }],
    ['/v1/completions', { prompt: ['x', 'y'], max_tokens: 4 }],
    ['/v1/completions', { prompt: 'x', suffix: 'y', max_tokens: 4 }],
    ['/v1/chat/completions', { messages, max_tokens: 4 }],
    ['/v1/chat/completions', { messages, max_tokens: 4, stream: true }],
    ['/generate', { prompt: 'x', max_length: 4 }],
    ['/chat', { input_text: 'hello', max_tokens: 4 }],
  ] as const) {
    const answer = await post(mesh, path, body);
    assert.equal(answer.status, 200, path);
    await answer.text();
  }
  const records = await ended(mesh, 12);
  assert.equal(records[0]?.action, 'service.started');
  for (const end of named(records, 'request.finished')) {
    assert.deepEqual([end.outcome, end.code, end.reason], ['ok', 'OK', 'LENGTH']);
  }
});

test('the record says who, what and how much, and nothing of the content', async (t) => {
  const mesh = await audited(t);
  const body = { prompt: 'a secret prompt', max_tokens: 5, request_id: 'r-1' };
  const answer = await post(mesh, '/v1/completions', body);
  const { choices } = (await answer.json()) as { choices: { text: string }[] };
  const text = choices[0]?.text ?? '';
  const records = await ended(mesh, 1);
  const [accepted] = named(records, 'request.accepted');
  const [finished] = named(records, 'request.finished');
  assert.ok(accepted && finished);
  const vault = await openVault(join(mesh.folder, 'keys'));
  t.after(() => vault.close());
  const { tenant, actor, target, request_id, trace_id } = accepted;
  assert.deepEqual([tenant, actor.kind, target, request_id], ['local', 'user', 'mock', 'r-1']);
  assert.equal(trace_id, answer.headers.get('x-trace-id'));
  assert.equal(vault.reveal('local', actor.ref)?.id, 'local');
  assert.deepEqual(vault.unseal('local', actor.ref, accepted.sealed ?? ''), {
    key_id: 'local',
    client_ip: '127.0.0.1',
  });
  assert.deepEqual(accepted.usage, { prompt_bytes: 15, choices: 1, max_tokens: 5 });
  assert.match(accepted.args_mac ?? '', /^[0-9a-f]{64}$/);
  assert.equal(finished.parent_id, accepted.id);
  assert.deepEqual(
    [finished.tenant, finished.actor, finished.request_id, finished.trace_id],
    [tenant, actor, request_id, trace_id],
  );
  const { queue_ms, prefill_ms, decode_ms, latency_ms, ...usage } = finished.usage ?? {};
  assert.deepEqual(usage, {
    prompt_tokens: 15,
    cached_tokens: 4,
    completion_tokens: 5,
    response_bytes: Buffer.byteLength(text),
  });
  for (const ms of [queue_ms, prefill_ms, decode_ms, latency_ms]) assert.ok(Number.isInteger(ms));
  const stored = await readFile(join(mesh.folder, 'outbox', '0000000000000001.log'), 'utf8');
  for (const content of ['secret', text]) assert.ok(!stored.includes(content));
  // The same prompt of the same person has the same digest, another has another.
  for (const prompt of ['a secret prompt', 'another']) await post(mesh, '/generate', { prompt, max_length: 1 });
  const macs = named(await ended(mesh, 3), 'request.accepted').map(({ args_mac: mac }) => mac);
  assert.deepEqual([macs[1] === macs[0], macs[2] === macs[0]], [true, false]);
});

test('nothing of an answer leaves before the record is on disk, and all of it does then', async (t) => {
  let disk: Awaited<ReturnType<typeof faultyDisk>> | null = null;
  const spans: SpanRecord[] = [];
  const mesh = await startMesh(t, {
    spans: { record: (span) => void spans.push(span) },
    audit: async (dir) => {
      disk = await faultyDisk(dir);
      return { files: disk.files };
    },
  });
  assert.ok(disk);
  const { hold } = disk as Awaited<ReturnType<typeof faultyDisk>>;
  const release = hold();
  let events = 0;
  const request = completeRequest('x', 12);
  const streamed = (async () => {
    for await (const _ of serverStream(mesh.completion, 'streamComplete', { request })) events += 1;
  })();
  let answers = 0;
  const whole = unary(mesh.completion, 'complete', request, { timeoutMs: 20_000 }).then((answer) => {
    answers += 1;
    return answer;
  });
  let heads = 0;
  const sse = post(mesh, '/v1/completions', { prompt: 'x', max_tokens: 12, stream: true }).then((answer) => {
    heads += 1;
    return answer.text();
  });
  // The engine works meanwhile: it has finished all three, and no client has heard of it.
  await eventually(() => mesh.engine.requests.length === 3 && mesh.engine.live === 0, 'the engine is done');
  await sleep(100);
  assert.deepEqual([events, answers, heads], [0, 0, 0]);
  assert.deepEqual(named(await recordsIn(join(mesh.folder, 'outbox')), 'request.finished'), []);
  release();
  await streamed;
  assert.ok(events >= 3, `${events} events`);
  assert.equal((await whole).choices[0]?.text.length, 12);
  const chunks = (await sse).split('\n\n').filter((event) => event.startsWith('data: {'));
  const texts = chunks.map((chunk) => JSON.parse(chunk.slice(6)) as { choices: { text: string }[] });
  assert.equal(texts.map(({ choices }) => choices[0]?.text ?? '').join(''), (await whole).choices[0]?.text);
  await ended(mesh, 3);
  const waits = spans.filter(({ name }) => name === 'audit.append');
  assert.equal(waits.length, 3);
  for (const { kind, startUnixNs, endUnixNs } of waits) {
    assert.equal(kind, 'internal');
    assert.ok(endUnixNs - startUnixNs >= 90_000_000n);
  }
});

/** Runs one thing after another and notes how the newest request ended in the audit. */
function notes(mesh: TestMesh) {
  const outcomes: Record<string, string> = {};
  let requests = 0;
  return {
    outcomes,
    async note(name: string, more = 1): Promise<void> {
      requests += more;
      const end = named(await ended(mesh, requests), 'request.finished').at(-1);
      outcomes[name] = [end?.outcome, end?.code, end?.reason].join(' ');
      await eventually(() => mesh.engine.live === 0, 'ended');
    },
  };
}

test('exactly one end for who goes away: cancel, lost client, deadline', async (t) => {
  const mesh = await audited(t, { engine: { stepMs: 5 } });
  const { outcomes, note } = notes(mesh);
  const long = completeRequest('x', 2_000);
  const running = () => eventually(() => mesh.engine.live === 1, 'running');
  const withId = { ...long, options: { ...CALL, requestId: 'to-cancel' } };
  const cancelled = code(unary(mesh.completion, 'complete', withId, { timeoutMs: 30_000 }));
  await running();
  await unary(mesh.requests, 'cancel', { requestId: 'to-cancel' });
  assert.equal(await cancelled, 'OK');
  await note('cancel');
  const overHttp = (signal: AbortSignal) =>
    fetch(`${mesh.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ prompt: 'x', max_tokens: 2_000, stream: true }),
      signal,
    }).then((answer) => answer.text());
  const overGrpc = (signal: AbortSignal) =>
    drain(serverStream(mesh.completion, 'streamComplete', { request: long }, { signal }));
  for (const [name, ask] of [
    ['grpc client gone', overGrpc],
    ['http client gone', overHttp],
  ] as const) {
    const gone = new AbortController();
    const failed = assert.rejects(ask(gone.signal));
    await running();
    gone.abort();
    await failed;
    await note(name);
  }
  assert.equal(await code(unary(mesh.completion, 'complete', long, { timeoutMs: 1_500 })), 'DEADLINE_EXCEEDED');
  await note('deadline');
  assert.deepEqual(outcomes, {
    cancel: 'cancelled OK CANCELLED',
    'grpc client gone': 'cancelled CANCELLED CANCELLED',
    'http client gone': 'cancelled CANCELLED CLIENT_GONE',
    deadline: 'error DEADLINE_EXCEEDED DEADLINE_EXCEEDED',
  });
});

test('exactly one end for what is refused or shed after it was accepted, and for a lost engine', async (t) => {
  const mesh = await audited(t, { engine: { stepMs: 5 }, config: { bounds: { ...BOUNDS, tokensMax: 5_000 } } });
  const { outcomes, note } = notes(mesh);
  const ask = (text: string, maxTokens: number) =>
    code(unary(mesh.completion, 'complete', completeRequest(text, maxTokens)));
  // Accepted, and then found not to fit: by the context length, by its tokens beside others, by the engine.
  assert.equal(await ask('x'.repeat(600), 4_000), 'INVALID_ARGUMENT');
  await note('too long');
  const held = drain(serverStream(mesh.completion, 'streamComplete', { request: completeRequest('x', 3_000) }));
  await eventually(() => mesh.engine.live === 1, 'running');
  assert.equal(await ask('y', 3_000), 'RESOURCE_EXHAUSTED');
  const shed = named(await ended(mesh, 2, { running: 1 }), 'request.finished').at(-1);
  outcomes.shed = [shed?.outcome, shed?.code, shed?.reason].join(' ');
  mesh.engine.breakSessions();
  mesh.engine.settings.stepMs = 0;
  await held;
  await note('resumed', 2);
  mesh.engine.settings.refuse = new QuernError('INVALID_ARGUMENT', 'no');
  assert.equal(await ask('x', 8), 'INVALID_ARGUMENT');
  await note('engine refuses');
  mesh.engine.settings.refuse = null;
  // Refused before it was accepted: no record, and nothing that would need an end.
  assert.equal((await post(mesh, '/v1/completions', { prompt: 'x', temperature: 9 })).status, 400);
  assert.equal((await post(mesh, '/v1/completions', { prompt: 'x', model: 'none' })).status, 404);
  assert.deepEqual(outcomes, {
    'too long': 'error INVALID_ARGUMENT CONTEXT_LENGTH_EXCEEDED',
    shed: 'denied RESOURCE_EXHAUSTED SHED',
    resumed: 'ok OK LENGTH',
    'engine refuses': 'error INVALID_ARGUMENT INVALID_ARGUMENT',
  });
  const all = await ended(mesh, 4);
  // What never reached an engine has no times of one.
  const measured = named(all, 'request.finished').map(({ usage = {} }) => Object.hasOwn(usage, 'queue_ms'));
  assert.equal(measured[0], false);
  assert.ok(measured.includes(true));
  const [crash] = named(all, 'engine.crashed');
  assert.deepEqual([crash?.tenant, crash?.target, crash?.usage], ['_system', 'mock', { requests: 1 }]);
  assert.deepEqual(
    named(all, 'request.affected').map(({ parent_id, reason }) => [parent_id, reason]),
    [[named(all, 'request.accepted')[1]?.id, 'ENGINE_LOST']],
  );
});

const CALL = { requestId: '', priorityClass: 0 as PriorityClass, supersedeKey: '' };
const BOUNDS = { requestsMax: 64, tokensMax: 1 << 20, principalRequestsMax: 64, principalTokensMax: 1 << 20 };

test('an infill over HTTP, whose n_predict is a bound, is recorded with it', async (t) => {
  const mesh = await audited(t);
  await post(mesh, '/infill', { input_prefix: 'a = ', input_suffix: '\n', n_predict: 7 });
  const [accepted] = named(await ended(mesh, 1), 'request.accepted');
  assert.deepEqual([accepted?.usage?.max_tokens, accepted?.usage?.choices], [7, 1]);
});
