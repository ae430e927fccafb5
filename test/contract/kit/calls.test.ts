import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import {
  type DescribeRequest,
  type DescribeResponse,
  type EngineServiceClient,
  EngineServiceService,
  type SessionRequest,
  type SessionResponse,
} from '#gen/quern/engine/v1/engine.ts';
import type { GetVocabularyResponse, TokenizerServiceClient } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { CODES, INTERNAL_MESSAGE, QuernError } from '#kit/errors.ts';
import { localPrincipal, type Principal } from '#kit/principal.ts';
import { openChannel, serverStream, unary, waitForReady } from '#kit/rpc/client.ts';
import { defineService, type Handler } from '#kit/rpc/server.ts';
import { type SpanRecord, startTrace } from '#kit/trace.ts';
import { type Bidi, bidi } from '../../support/bidi.ts';
import { EchoClient, type Message, startEcho } from './support/echo.ts';

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

for (const listen of [undefined, ['127.0.0.1:0']]) {
  const where = listen ? 'TCP' : 'a unix socket';

  test(`unary, server stream and bidi over ${where}`, async (t) => {
    const echo = await startEcho(t, {}, listen ? { listen, openOnLoopback: true } : {});
    await waitForReady(echo.client, { timeoutMs: 30_000 });
    assert.deepEqual(await unary(echo.client, 'say', { text: 'hello' }), { text: 'hello' });
    const counted = await collect(serverStream(echo.client, 'count', { number: 1_000 }));
    assert.deepEqual(
      counted.map((message) => message.number),
      Array.from({ length: 1_000 }, (_, number) => number),
    );
    const talk = bidi(echo.client, 'talk');
    for (const text of ['a', 'b', 'c']) talk.write({ text });
    talk.end();
    assert.deepEqual(await collect(talk.responses), [{ text: 'a' }, { text: 'b' }, { text: 'c' }]);
    assert.equal(talk.write({ text: 'late' }), false);
    await assert.rejects(talk.drained(), { code: 'UNAVAILABLE' });
  });
}

test('every code comes back with its details, from unary, stream and bidi handlers', async (t) => {
  const details = {
    reason: 'TEST_REASON',
    metadata: { expected: '1' },
    fields: [{ field: 'a.b', description: 'expected x, got y' }],
    retryAfterMs: 250,
  };
  const fail = (request: Message): never => {
    throw new QuernError(CODES[request.number!]!, `100 % größer als ${request.number}`, details);
  };
  const echo = await startEcho(t, {
    say: fail,
    async count(request, _call, out) {
      out.write({ text: 'before' });
      fail(request);
    },
    async talk(incoming) {
      for await (const request of incoming) fail(request);
    },
  });
  for (const [number, code] of CODES.entries()) {
    const expected = { code, message: `100 % größer als ${number}`, details };
    await assert.rejects(unary(echo.client, 'say', { number }), expected);
    const seen: Message[] = [];
    const reading = async () => {
      for await (const message of serverStream(echo.client, 'count', { number })) seen.push(message);
    };
    await assert.rejects(reading(), expected);
    assert.deepEqual(seen, [{ text: 'before' }], 'what was written before the error arrives before it');
    const talk = bidi(echo.client, 'talk');
    talk.write({ number });
    await assert.rejects(collect(talk.responses), expected);
  }
});

test('what a handler throws by mistake is INTERNAL without a word of it, and is in the log', async (t) => {
  const echo = await startEcho(t, {
    say() {
      throw new TypeError('password=hunter2');
    },
  });
  await assert.rejects(unary(echo.client, 'say', {}), { code: 'INTERNAL', message: INTERNAL_MESSAGE });
  const [line] = await echo.calls(1);
  assert.equal(line!.level, 'error');
  assert.match(JSON.stringify(line!.err), /hunter2/);
});

test('a request that does not decode is INVALID_ARGUMENT, in a stream too', async (t) => {
  const echo = await startEcho(t);
  const bad = Buffer.from('{"broken');
  const raw = new Promise((resolve, reject) => {
    echo.client.makeUnaryRequest(
      '/quern.test.v1.EchoService/Say',
      () => bad,
      (bytes: Buffer) => bytes,
      {},
      new Metadata(),
      {},
      (error, response) => (error ? reject(error) : resolve(response)),
    );
  });
  await assert.rejects(raw, { code: 3, details: /not a valid protobuf message/ });
  const stream = echo.client.makeBidiStreamRequest(
    '/quern.test.v1.EchoService/Talk',
    () => bad,
    (bytes: Buffer) => bytes,
  );
  const failed = new Promise((resolve) => stream.on('error', resolve));
  stream.write({});
  assert.equal(((await failed) as { code: number }).code, 3);
  assert.deepEqual(await unary(echo.client, 'say', { text: 'alive' }), { text: 'alive' });
});

test('a method that nobody serves is UNIMPLEMENTED', async (t) => {
  const echo = await startEcho(t);
  const failed = new Promise((resolve) => {
    const done = (error: unknown) => resolve(error);
    echo.client.makeUnaryRequest(
      '/quern.test.v1.EchoService/No',
      () => Buffer.alloc(0),
      (bytes: Buffer) => bytes,
      {},
      done,
    );
  });
  assert.equal(((await failed) as { code: number }).code, 12);
});

test('an answer above the message limit is RESOURCE_EXHAUSTED with the sizes', async (t) => {
  const echo = await startEcho(t, { say: async () => ({ text: 'x'.repeat(2_000) }) }, { maxMessageBytes: 1_000 });
  await assert.rejects(unary(echo.client, 'say', {}), {
    code: 'RESOURCE_EXHAUSTED',
    details: { reason: 'MESSAGE_TOO_LARGE' },
    message: /2011 bytes exceeds the limit of 1000/,
  });
});

test('trace, metadata, peer and principal reach the handler; a trailer reaches the caller', async (t) => {
  const trace = { ...startTrace(), tracestate: 'vendor=1' };
  const seen: Record<string, unknown> = {};
  const echo = await startEcho(t, {
    async say(request, call) {
      Object.assign(seen, { trace: call.trace, tenant: call.principal.tenant, peer: call.peer, method: call.method });
      seen.header = call.metadata.get('x-extra');
      seen.absent = call.metadata.get('x-absent');
      call.setTrailer('x-trailer', 'end');
      return request;
    },
  });
  const trailers = new Promise<Metadata>((resolve) => {
    const metadata = new Metadata();
    metadata.set('x-extra', 'yes');
    metadata.set('traceparent', `00-${trace.traceId}-${trace.spanId}-01`);
    metadata.set('tracestate', trace.tracestate);
    echo.client.say({}, metadata, {}, () => {}).on('status', (status) => resolve(status.metadata));
  });
  assert.deepEqual((await trailers).get('x-trailer'), ['end']);
  const received = seen.trace as typeof trace;
  assert.equal(received.traceId, trace.traceId);
  assert.equal(received.spanId, trace.spanId, "without export nothing stands between the caller's span and the next");
  assert.equal(received.tracestate, 'vendor=1');
  assert.deepEqual(
    [seen.tenant, seen.method, seen.header, seen.absent],
    ['local', 'quern.test.v1.EchoService/Say', 'yes', undefined],
  );
  assert.match(String(seen.peer), /^unix#\d+$/);
});

test('two connections over a unix socket are two peers, two calls of one connection are one', async (t) => {
  const peers: string[] = [];
  const echo = await startEcho(t, {
    async say(request, call) {
      peers.push(call.peer);
      return request;
    },
  });
  const other = openChannel(EchoClient, { address: echo.address });
  t.after(() => other.close());
  for (const client of [echo.client, echo.client, other]) await unary(client, 'say', {});
  assert.equal(peers[0], peers[1]);
  assert.notEqual(peers[0], peers[2]);
});

test('one log line and one observation per call; health is below info', async (t) => {
  const echo = await startEcho(t, {
    async say(request) {
      if (request.number === 1) throw new QuernError('NOT_FOUND', 'no such thing', { reason: 'MODEL_NOT_FOUND' });
      return request;
    },
  });
  await unary(echo.client, 'say', { text: 'CODE' });
  await assert.rejects(unary(echo.client, 'say', { number: 1 }));
  const [ok, failed] = (await echo.calls(2)) as [Record<string, unknown>, Record<string, unknown>];
  assert.deepEqual([ok.method, ok.code, ok.level, ok.tenant], ['quern.test.v1.EchoService/Say', 'OK', 'info', 'local']);
  assert.ok(Number(ok.duration_ms) > 0 && String(ok.trace_id).length === 32);
  assert.deepEqual([failed.code, failed.level, failed.reason], ['NOT_FOUND', 'info', 'MODEL_NOT_FOUND']);
  assert.doesNotMatch(JSON.stringify(echo.lines), /CODE/);
  const text = await echo.metrics.render();
  assert.match(text, /duration_seconds_count\{[^}]*EchoService\/Say[^}]*code="OK"[^}]*\} 1/);
  assert.match(text, /duration_seconds_count\{[^}]*EchoService\/Say[^}]*code="NOT_FOUND"[^}]*\} 1/);
  assert.match(text, /quern_rpc_server_calls_running\{[^}]*\} 0/);
});

test('a caller that was not recognised is nobody in the log, of no tenant', async (t) => {
  const authenticate = (): never => {
    throw new QuernError('UNAUTHENTICATED', 'expected a key');
  };
  const echo = await startEcho(t, {}, { authenticate });
  await assert.rejects(unary(echo.client, 'say', {}), { code: 'UNAUTHENTICATED' });
  const [line] = (await echo.calls(1)) as [Record<string, unknown>];
  assert.equal(line.code, 'UNAUTHENTICATED');
  assert.deepEqual([Object.hasOwn(line, 'tenant'), Object.hasOwn(line, 'user')], [false, false]);
});

test('a unary call without a deadline is refused where deadlines are required; streams need none', async (t) => {
  const echo = await startEcho(t, {}, { requireDeadline: true });
  await assert.rejects(unary(echo.client, 'say', {}, { timeoutMs: null }), {
    code: 'INVALID_ARGUMENT',
    details: { reason: 'DEADLINE_REQUIRED' },
  });
  assert.deepEqual(await unary(echo.client, 'say', { number: 1 }, { timeoutMs: 20_000 }), { number: 1 });
  assert.equal((await collect(serverStream(echo.client, 'count', { number: 2 }))).length, 2);
});

test('nobody there is UNAVAILABLE within milliseconds', async (t) => {
  const client = openChannel(EchoClient, { address: 'unix:///tmp/quern-kit-nobody.sock' });
  t.after(() => client.close());
  await assert.rejects(unary(client, 'say', {}), { code: 'UNAVAILABLE' });
  await assert.rejects(waitForReady(client, { timeoutMs: 50 }), {
    code: 'UNAVAILABLE',
    details: { reason: 'NOT_CONNECTED' },
  });
});

test("one server span per call, below the caller's, with the status as text", async (t) => {
  const spans: SpanRecord[] = [];
  const fail = () => Promise.reject(new QuernError('NOT_FOUND', 'no'));
  const echo = await startEcho(t, { count: fail }, { spans: { record: (span) => void spans.push(span) } });
  const trace = startTrace();
  await unary(echo.client, 'say', {}, { trace, requestId: 'r1' });
  await assert.rejects(serverStream(echo.client, 'count', {}, { trace: { ...trace, sampled: false } }).next());
  await assert.rejects(serverStream(echo.client, 'count', {}).next());
  await echo.calls(3);
  assert.equal(spans.length, 2, 'the caller decided against one');
  const [ok, failed] = spans as [SpanRecord, SpanRecord];
  assert.deepEqual([ok.name, ok.kind, ok.parentSpanId], ['quern.test.v1.EchoService/Say', 'server', trace.spanId]);
  assert.equal(ok.context.traceId, trace.traceId);
  assert.deepEqual(ok.attributes, {
    'rpc.system.name': 'grpc',
    'rpc.method': 'quern.test.v1.EchoService/Say',
    'rpc.status_code': 'OK',
    'quern.request_id': 'r1',
    'quern.tenant': 'local',
    'quern.key_id': 'local',
  });
  assert.deepEqual(
    [failed.parentSpanId, failed.error, failed.attributes['rpc.status_code'], failed.attributes['error.type']],
    [null, null, 'NOT_FOUND', 'NOT_FOUND'],
    'what is missing is no error of the server',
  );
});

test('a caller that is not recognised gets a new trace with a link, and no say in what is recorded', async (t) => {
  const spans: SpanRecord[] = [];
  const authenticate = (metadata: { get(name: string): string | undefined }): Principal => {
    if (metadata.get('authorization') === 'Bearer good') return localPrincipal;
    throw new QuernError('UNAUTHENTICATED', 'no');
  };
  const sink = { record: (span: SpanRecord) => void spans.push(span) };
  const echo = await startEcho(t, {}, { authenticate, authorizeSpan: 'test.authorize', spans: sink });
  const trace = { ...startTrace(), sampled: false };
  await assert.rejects(unary(echo.client, 'say', {}, { trace }), { code: 'UNAUTHENTICATED' });
  const good = startTrace();
  await unary(echo.client, 'say', {}, { trace: good, metadata: { authorization: 'Bearer good', baggage: 'a=b' } });
  await echo.calls(2);
  const [deniedCheck, denied, allowedCheck, allowed] = spans as [SpanRecord, SpanRecord, SpanRecord, SpanRecord];
  assert.equal(spans.length, 4);
  assert.notEqual(denied.context.traceId, trace.traceId);
  assert.deepEqual([denied.parentSpanId, denied.links], [null, [trace]]);
  assert.deepEqual([denied.error, denied.attributes['rpc.status_code']], [null, 'UNAUTHENTICATED']);
  assert.equal(Object.hasOwn(denied.attributes, 'quern.tenant'), false);
  assert.deepEqual([allowed.context.traceId, allowed.parentSpanId, allowed.links], [good.traceId, good.spanId, []]);
  for (const [check, call, decision] of [
    [deniedCheck, denied, 'deny'],
    [allowedCheck, allowed, 'allow'],
  ] as const) {
    assert.deepEqual([check.name, check.parentSpanId], ['test.authorize', call.context.spanId]);
    assert.equal(check.attributes['quern.auth.decision'], decision);
    assert.ok(check.startUnixNs >= call.startUnixNs && check.endUnixNs <= call.endUnixNs);
  }
});

test('a channel that was given a sink makes one client span per call, and the server lies below it', async (t) => {
  const spans: SpanRecord[] = [];
  const sink = { record: (span: SpanRecord) => void spans.push(span) };
  const count = async (_request: unknown, _call: unknown, out: { write(message: object): boolean }): Promise<void> => {
    out.write({ number: 1 });
    throw new QuernError('UNAVAILABLE', 'gone');
  };
  const echo = await startEcho(t, { count }, { spans: sink });
  const client = openChannel(EchoClient, { address: echo.address, spans: sink });
  t.after(() => client.close());
  const trace = startTrace();
  await unary(client, 'say', {}, { trace });
  for await (const _ of serverStream(client, 'count', {}, { trace })) break;
  await assert.rejects(collect(serverStream(client, 'count', {}, { trace })), { code: 'UNAVAILABLE' });
  await echo.calls(3);
  const clients = spans.filter((span) => span.kind === 'client');
  assert.deepEqual(
    clients.map((span) => [span.name, span.parentSpanId, span.error]),
    [
      ['quern.test.v1.EchoService/Say', trace.spanId, null],
      ['quern.test.v1.EchoService/Count', trace.spanId, 'CANCELLED'],
      ['quern.test.v1.EchoService/Count', trace.spanId, 'UNAVAILABLE'],
    ],
  );
  const servers = spans.filter((span) => span.kind === 'server');
  const ids = clients.map((span) => span.context.spanId).sort();
  assert.deepEqual(servers.map((span) => span.parentSpanId).sort(), ids);
});

test('a client finds a server that was restarted on the same socket', async (t) => {
  const echo = await startEcho(t);
  await unary(echo.client, 'say', {});
  await echo.server.close();
  await assert.rejects(unary(echo.client, 'say', {}, { timeoutMs: 20_000 }), { code: 'UNAVAILABLE' });
  await startEcho(t, {}, { listen: [echo.address] });
  await waitForReady(echo.client, { timeoutMs: 30_000 });
  assert.deepEqual(await unary(echo.client, 'say', { number: 2 }), { number: 2 });
});

/** Never called: the type checker proves that generated definitions and clients give their types to both sides. */
export function typesOfGeneratedCode(engine: EngineServiceClient, tokenizer: TokenizerServiceClient): unknown {
  const described: Promise<DescribeResponse> = unary(engine, 'describe', {});
  const vocabulary: AsyncIterable<GetVocabularyResponse> = serverStream(tokenizer, 'getVocabulary', { model: 'm' });
  const session: Bidi<SessionRequest, SessionResponse> = bidi(engine, 'session');
  const describe: Handler<(typeof EngineServiceService)['describe']> = async (request, call) => {
    const _request: DescribeRequest = request;
    throw new QuernError('UNIMPLEMENTED', call.method);
  };
  // @ts-expect-error a stream is not a unary method
  const wrongKind = () => unary(engine, 'generate', {});
  // @ts-expect-error the request's type is the method's
  const wrongRequest = () => unary(engine, 'abort', { requestIds: [1] });
  // @ts-expect-error every method needs a handler
  const missing = () => defineService(EngineServiceService, { describe });
  return [described, vocabulary, session, describe, wrongKind, wrongRequest, missing];
}
