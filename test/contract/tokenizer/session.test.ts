// The tokenizer's Session: many calls on one stream, each with its own end; and the gateway's side of it.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type EncodeRequest,
  ParseSpecial,
  type SessionRequest,
  type SessionResponse,
  TokenizerServiceClient,
  TokenizerServiceService,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { RPC_MESSAGE_BYTES_MAX } from '#kit/limits.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel } from '#kit/rpc/client.ts';
import { defineService, startRpcServer } from '#kit/rpc/server.ts';
import { type SpanRecord, startTrace } from '#kit/trace.ts';
import { TokenizerSession } from '../../../services/gateway/tokenizer-session.ts';
import { type SessionCalls, session } from '../../../services/tokenizer/rpc/session.ts';
import { bidi } from '../../support/bidi.ts';

const log = createLog({ service: 'tokenizer', level: 'silent' });
const encodeRequest = (text: string): EncodeRequest => ({
  model: 'm',
  text,
  parseSpecial: ParseSpecial.PARSE_SPECIAL_NONE,
  addBos: false,
});

/** Ids are UTF-16 units; 'bad' is refused, 'big' makes an answer over the message limit. */
const calls: SessionCalls = {
  encode({ text }) {
    if (text === 'bad') {
      const fields = [{ field: 'text', description: 'bad' }];
      throw new QuernError('INVALID_ARGUMENT', 'text: bad', { reason: 'BAD_TEXT', fields });
    }
    if (text === 'big') return { tokenIds: Array.from({ length: 300_000 }, () => 0xffffffff) };
    return { tokenIds: Array.from(text, (unit) => unit.charCodeAt(0)) };
  },
  renderChat: () => {
    throw new Error('a fault of ours');
  },
  renderInfill: ({ prefix }) => ({
    tokenIds: Array.from(prefix, (unit) => unit.charCodeAt(0)),
    stopTokenIds: [],
    stopStrings: [],
    family: 'f',
    droppedPrefixTokens: 0,
    droppedSuffixTokens: 0,
    droppedChunks: 0,
  }),
};

/** Loses the call whose text is 'lost': it is never answered. */
async function* lossy(incoming: AsyncIterable<SessionRequest>): AsyncGenerator<SessionRequest> {
  for await (const message of incoming) {
    if (message.request?.$case !== 'encode' || message.request.value.text !== 'lost') yield message;
  }
}

async function start(t: TestContext, listen?: string) {
  const folder = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const draining = new AbortController();
  const spans: SpanRecord[] = [];
  const answered: string[] = [];
  const refuse = (): never => {
    throw new QuernError('UNIMPLEMENTED', 'not in this test');
  };
  const options = {
    spans: { record: (span: SpanRecord) => void spans.push(span) },
    draining: draining.signal,
    onAnswered: (rpc: string) => void answered.push(rpc),
  };
  const server = await startRpcServer({
    service: 'tokenizer',
    listen: [listen ?? `unix://${folder}/t.sock`],
    services: [
      defineService(TokenizerServiceService, {
        ...calls,
        decode: refuse,
        countTokens: refuse,
        getVocabulary: refuse,
        session: (incoming, _call, out) => session(calls, lossy(incoming), out, options),
      }),
    ],
    log,
    metrics: createMetrics('tokenizer'),
    maxMessageBytes: 1 << 20,
  });
  const close = async (): Promise<void> => {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  };
  t.after(close);
  return { server, address: server.addresses[0] as string, draining, spans, answered, close };
}

function connect(t: TestContext, address: string) {
  const client = openChannel(TokenizerServiceClient, { address });
  const own = new TokenizerSession({ address });
  t.after(() => {
    own.close();
    client.close();
  });
  const signal = AbortSignal.timeout(20_000);
  return { client, own, options: { signal, timeoutMs: 10_000 } };
}

test('500 calls at once: each gets its own answer or its own error, the stream goes on', async (t) => {
  const { address, answered } = await start(t);
  const { own, options } = connect(t, address);
  const results = await Promise.allSettled(
    Array.from({ length: 500 }, (_, i) => own.encode(encodeRequest(i % 7 === 3 ? 'bad' : `text ${i}`), options)),
  );
  for (const [i, result] of results.entries()) {
    if (i % 7 === 3) {
      assert.equal(result.status, 'rejected');
      const error = result.reason as QuernError;
      assert.deepEqual([error.code, error.details.reason], ['INVALID_ARGUMENT', 'BAD_TEXT']);
      assert.deepEqual(error.details.fields, [{ field: 'text', description: 'bad' }]);
    } else {
      assert.equal(result.status, 'fulfilled');
      assert.equal(String.fromCharCode(...result.value.tokenIds), `text ${i}`);
    }
  }
  assert.equal(answered.length, 500);
});

test('an answer over the message limit and a fault of ours end one call each', async (t) => {
  const { address } = await start(t);
  const { own, options } = connect(t, address);
  await assert.rejects(own.encode(encodeRequest('big'), options), { code: 'RESOURCE_EXHAUSTED' });
  const chat = { model: 'm', messages: [], tools: [], templateVariables: undefined, continueFinalMessage: false };
  await assert.rejects(
    own.renderChat({ ...chat, addGenerationPrompt: undefined, enableThinking: undefined }, options),
    { code: 'INTERNAL' },
  );
  assert.deepEqual(await own.encode(encodeRequest('a'), options), { tokenIds: [97] });
});

test('a text that is too large for a message is refused alone', async (t) => {
  const { address } = await start(t);
  const { own, options } = connect(t, address);
  const other = own.encode(encodeRequest('b'), options);
  await assert.rejects(own.encode(encodeRequest('x'.repeat(RPC_MESSAGE_BYTES_MAX)), options), {
    code: 'RESOURCE_EXHAUSTED',
    details: { reason: 'MESSAGE_TOO_LARGE' },
  });
  assert.deepEqual(await other, { tokenIds: [98] });
});

test('an empty request is refused by its call id', async (t) => {
  const { address } = await start(t);
  const { client } = connect(t, address);
  const call = bidi(client, 'session');
  const request: SessionRequest = { callId: 7, traceparent: '', tracestate: '', request: undefined };
  call.write(request);
  const answers: SessionResponse[] = [];
  for await (const response of call.responses) {
    answers.push(response);
    break;
  }
  assert.equal(answers[0]?.callId, 7);
  const result = answers[0]?.result;
  assert.ok(result?.$case === 'error');
  assert.equal(result.value.code, 3);
});

test("a call's span lies below its caller's", async (t) => {
  const { address, spans } = await start(t);
  const { own, options } = connect(t, address);
  const trace = startTrace();
  await own.encode(encodeRequest('a'), { ...options, trace });
  const [span] = spans;
  assert.equal(span?.context.traceId, trace.traceId);
  assert.equal(span?.parentSpanId, trace.spanId);
  assert.equal(span?.name, 'quern.tokenizer.v1.TokenizerService/Encode');
  assert.equal(span?.error, null);
});

test('a cancelled call settles at once with its reason, the others go on', async (t) => {
  const { address } = await start(t);
  const { own, options } = connect(t, address);
  const controller = new AbortController();
  const cancelled = own.encode(encodeRequest('a'), { ...options, signal: controller.signal });
  const other = own.encode(encodeRequest('b'), options);
  controller.abort(new QuernError('CANCELLED', 'no longer wanted'));
  await assert.rejects(cancelled, { code: 'CANCELLED', message: 'no longer wanted' });
  assert.deepEqual(await other, { tokenIds: [98] });
});

test('a drain ends the session with UNAVAILABLE at once, though its peer keeps it open', async (t) => {
  const { address, server, draining } = await start(t);
  const { own, options } = connect(t, address);
  await own.encode(encodeRequest('a'), options);
  const startedMs = performance.now();
  draining.abort();
  await server.drain(20_000);
  assert.ok(performance.now() - startedMs < 10_000, 'the drain waited for the open session');
  await assert.rejects(own.encode(encodeRequest('b'), options), { code: 'UNAVAILABLE' });
});

test('a restarted service is found again by the next call', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const listen = `unix://${folder}/t.sock`;
  const first = await start(t, listen);
  const { own, options } = connect(t, listen);
  await own.encode(encodeRequest('a'), options);
  await first.close();
  await start(t, listen);
  for (let attempt = 0; ; attempt += 1) {
    try {
      assert.deepEqual(await own.encode(encodeRequest('b'), options), { tokenIds: [98] });
      return;
    } catch (error) {
      assert.equal((error as QuernError).code, 'UNAVAILABLE');
      assert.ok(attempt < 200, 'never reachable again');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
});

test('a service that does not answer in time is DEADLINE_EXCEEDED', async (t) => {
  const { address } = await start(t);
  const { own, options } = connect(t, address);
  await own.encode(encodeRequest('a'), options);
  const lost = own.encode(encodeRequest('lost'), { ...options, timeoutMs: 50 });
  await assert.rejects(lost, { code: 'DEADLINE_EXCEEDED' });
  assert.deepEqual(await own.encode(encodeRequest('b'), options), { tokenIds: [98] });
});
