// The Session contract of design.md section 2, against the real engine on a tiny random model.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SessionResponse } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import { fromStatusProto } from '#kit/rpc/status.ts';
import { bidi } from '../../support/bidi.ts';
import { generation, LONG, sampling, skip, startTinyEngine, TestSession, untilIdle } from './support/engine.ts';

test('session: submitted handles stream their tokens and end once, one batch per step', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  session.submit(1, generation());
  const first = await session.end(1);
  assert.equal(session.tokens.get(1)?.length, 4);
  assert.equal(first.status, undefined);
  assert.deepEqual(first.choices, [{ choice: 0, reason: 2, stopTokenId: undefined }]);
  assert.deepEqual(first.usage, { promptTokens: 5, cachedTokens: 0, completionTokens: 4 });
  assert.ok(first.timings && first.timings.prefillNs > 0n && first.timings.decodeSteps === 3);

  // Greedy output does not depend on who shares the batch.
  const long = sampling({ maxTokens: 400 });
  for (let handle = 2; handle <= 9; handle += 1) session.submit(handle, generation({ sampling: long }));
  for (let handle = 2; handle <= 9; handle += 1) {
    await session.end(handle);
    assert.deepEqual(session.tokens.get(handle), session.tokens.get(2));
  }
  assert.deepEqual(session.tokens.get(2)?.slice(0, 4), session.tokens.get(1));
  for (const batch of session.batches) {
    const pairs = batch.tokens.map(({ handle, choice }) => `${handle}/${choice}`);
    assert.equal(new Set(pairs).size, pairs.length);
  }
  assert.ok(
    session.batches.some((batch) => batch.tokens.length > 1),
    'some step carried several sequences',
  );
});

test('session: refusals are the handle’s final event and name the field', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  const cases: [Parameters<typeof generation>[0] | null, string, string][] = [
    [{ sampling: sampling({ topP: 1.5 }) }, 'request.sampling.top_p', 'expected (0, 1], got 1.5'],
    [{ tokenIds: [] }, 'request.token_ids', 'expected at least 1 token, got none'],
    [{ tokenIds: [1, 512] }, 'request.token_ids[1]', 'expected an id below 512, got 512'],
    [{ requestId: '' }, 'request.request_id', 'expected 1 to 128 characters, got 0'],
    [{ sampling: sampling({ maxTokens: 9000 }) }, 'request.sampling.max_tokens', 'expected 0 to 8192, got 9000'],
    [{ timeoutMs: 0 }, 'request.timeout_ms', 'expected 1 to 86400000, got 0'],
    [null, 'request', 'expected a GenerationRequest, got none'],
  ];
  for (const [index, [overrides, field, description]] of cases.entries()) {
    session.submit(index, overrides === null ? undefined : generation(overrides));
    const end = await session.end(index);
    assert.ok(end.status);
    const error = fromStatusProto(end.status);
    assert.equal(error.code, 'INVALID_ARGUMENT');
    assert.equal(error.message, `${field}: ${description}`);
    assert.deepEqual(error.details.fields, [{ field, description }]);
    assert.equal(end.choices[0]?.reason, 6);
  }
  // The stream lives on.
  session.submit(100, generation());
  assert.equal((await session.end(100)).status, undefined);
});

test('session: cancel ends the handle and frees its blocks within a step', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t, { QUERN_ENGINE_MAX_NUM_SEQS: '1' });
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  session.submit(1, generation({ sampling: sampling({ maxTokens: LONG }) }));
  session.submit(2, generation());
  await session.until(() => (session.tokens.get(1)?.length ?? 0) > 2);
  session.cancel(1);
  const end = await session.end(1);
  assert.equal(end.choices[0]?.reason, 3);
  assert.equal(end.status, undefined);
  assert.equal((await session.end(2)).usage?.completionTokens, 4);
  await untilIdle(service);
  session.cancel(1);
  session.cancel(4711);
});

test('session: a lost peer cancels all its handles', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const session = new TestSession(client);
  for (let handle = 0; handle < 10; handle += 1) {
    session.submit(handle, generation({ sampling: sampling({ maxTokens: LONG }) }));
  }
  await session.until(() => session.tokens.size > 0);
  assert.ok(service.native.load().running > 0);
  session.call.cancel();
  await untilIdle(service);
});

test('session: half-close cancels all handles and still delivers their ends', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const session = new TestSession(client);
  for (let handle = 0; handle < 6; handle += 1) {
    session.submit(handle, generation({ sampling: sampling({ maxTokens: LONG }) }));
  }
  await session.until(() => session.tokens.size > 0);
  session.call.end();
  assert.equal(await session.untilEnded(), null);
  assert.equal(session.finished.size, 6);
  for (const end of session.finished.values()) assert.equal(end.choices[0]?.reason, 3);
  await untilIdle(service);
});

test('session: only a broken peer ends the stream', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const empty = new TestSession(client);
  empty.call.write({ command: undefined });
  const error = await empty.untilEnded();
  assert.ok(error instanceof QuernError);
  assert.equal(error.code, 'INVALID_ARGUMENT');
  assert.equal(error.details.reason, 'BROKEN_PEER');

  const twice = new TestSession(client);
  twice.submit(1, generation({ sampling: sampling({ maxTokens: LONG }) }));
  twice.submit(1, generation());
  const second = await twice.untilEnded();
  assert.ok(second instanceof QuernError);
  assert.match(second.message, /handle 1 was submitted while it is live/);
  await untilIdle(service);
});

test('session: a newer request supersedes the older; a full inbox is refused with a retry hint', {
  skip,
}, async (t) => {
  const { client } = await startTinyEngine(t, { QUERN_ENGINE_MAX_NUM_SEQS: '1', QUERN_ENGINE_MAX_WAITING: '2' });
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  const long = { sampling: sampling({ maxTokens: LONG }), supersedeKey: 'buffer-1' };
  session.submit(1, generation(long));
  await session.until(() => session.tokens.has(1));
  session.submit(2, generation(long));
  assert.equal((await session.end(1)).choices[0]?.reason, 5);
  for (let handle = 10; handle < 20; handle += 1) session.submit(handle, generation());
  await session.until(() => [...session.finished.values()].some((end) => end.status !== undefined));
  const refused = [...session.finished.values()].find((end) => end.status !== undefined);
  const error = fromStatusProto(refused!.status!);
  assert.equal(error.code, 'RESOURCE_EXHAUSTED');
  assert.match(error.message, /inbox is full/);
  assert.ok((error.details.retryAfterMs ?? 0) > 0);
});

test('session: logprobs, prompt logprobs, choices and seeds arrive', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  const wanted = sampling({
    maxTokens: 5,
    temperature: 1,
    n: 3,
    logprobs: 2,
    promptLogprobs: 1,
    seed: 12345678901234567n,
  });
  session.submit(1, generation({ sampling: wanted }));
  const end = await session.end(1);
  assert.equal(end.seed, 12345678901234567n);
  assert.deepEqual(end.choices.map(({ choice }) => choice).sort(), [0, 1, 2]);
  assert.equal(end.usage?.completionTokens, 15);
  const events = session.batches.flatMap((batch) => batch.tokens);
  const prompts = events.filter((event) => event.promptLogprobs.length > 0);
  assert.equal(prompts.length, 1);
  assert.equal(prompts[0]?.choice, 0);
  assert.deepEqual(
    prompts[0]?.promptLogprobs.map(({ chosen }) => chosen?.tokenId),
    [2, 3, 4, 5],
  );
  for (const event of events) {
    assert.equal(event.logprobs.length, event.tokenIds.length);
    for (const [i, { chosen, top }] of event.logprobs.entries()) {
      assert.equal(chosen?.tokenId, event.tokenIds[i]);
      assert.ok(chosen && chosen.logprob <= 0 && chosen.rank >= 1);
      assert.equal(top.length, 2);
      assert.ok(top[0]!.logprob >= top[1]!.logprob);
      assert.deepEqual(
        top.map(({ rank }) => rank),
        [1, 2],
      );
      // Its own rank says whether it is among the two.
      const among = top.find(({ tokenId }) => tokenId === chosen.tokenId);
      assert.equal(among?.rank, chosen.rank <= 2 ? chosen.rank : undefined);
    }
  }
});

test('session: the id that ends a choice is its last token, counted once and named', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  session.submit(1, generation({ sampling: sampling({ maxTokens: 8 }) }));
  await session.end(1);
  const whole = session.tokens.get(1) as number[];
  const stop = whole[3]!;
  const upTo = whole.slice(0, whole.indexOf(stop) + 1);
  session.submit(2, generation({ sampling: sampling({ maxTokens: 8, stopTokenIds: [stop] }) }));
  const end = await session.end(2);
  assert.deepEqual(session.tokens.get(2), upTo);
  assert.deepEqual(end.choices, [{ choice: 0, reason: 1, stopTokenId: stop }]);
  assert.equal(end.usage?.completionTokens, upTo.length);
});

test('session: a resumed request goes on with the same tokens', { skip }, async (t) => {
  const { client } = await startTinyEngine(t);
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  const wanted = sampling({ maxTokens: 12, temperature: 1, seed: 5n });
  session.submit(1, generation({ sampling: wanted }));
  await session.end(1);
  const whole = session.tokens.get(1) as number[];
  session.submit(2, generation({ sampling: wanted, resumeTokenIds: whole.slice(0, 5) }));
  const end = await session.end(2);
  assert.deepEqual(session.tokens.get(2), whole.slice(5));
  assert.equal(end.usage?.completionTokens, 12);
});

test('session: drain lets running handles finish, refuses new ones and ends the stream', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t);
  const session = new TestSession(client);
  session.submit(1, generation({ sampling: sampling({ maxTokens: 300 }) }));
  await session.until(() => session.tokens.has(1));
  const drained = service.drain({ graceMs: 9_000 });
  session.submit(2, generation());
  const refused = await session.end(2);
  assert.equal(fromStatusProto(refused.status!).code, 'UNAVAILABLE');
  assert.equal((await session.end(1)).usage?.completionTokens, 300);
  const error = await session.untilEnded();
  assert.ok(error instanceof QuernError);
  assert.equal(error.details.reason, 'DRAINING');
  await drained;
});

test('session: when the grace is over the rest ends UNAVAILABLE, each with its own final event', {
  skip,
}, async (t) => {
  const { client, service } = await startTinyEngine(t, { QUERN_ENGINE_MAX_NUM_SEQS: '1' });
  const session = new TestSession(client);
  for (let handle = 0; handle < 3; handle += 1) {
    session.submit(handle, generation({ sampling: sampling({ maxTokens: LONG }) }));
  }
  await session.until(() => session.tokens.size > 0);
  await service.drain({ graceMs: 20 });
  const error = await session.untilEnded();
  assert.ok(error instanceof QuernError);
  assert.equal(error.code, 'UNAVAILABLE');
  assert.equal(session.finished.size, 3);
  for (const end of session.finished.values()) assert.equal(fromStatusProto(end.status!).code, 'UNAVAILABLE');
});

test('session: steps merge while the client does not read, and nothing is lost', { skip }, async (t) => {
  const { client, service } = await startTinyEngine(t, { QUERN_ENGINE_MAX_NUM_SEQS: '12' });
  const call = bidi(client, 'session');
  t.after(() => call.cancel());
  // Twenty alternatives a token, twelve sequences, some 2 MB: more than the connection's windows hold.
  const wanted = sampling({ maxTokens: 500, logprobs: 20, n: 4, temperature: 1 });
  for (let handle = 0; handle < 3; handle += 1) {
    call.write({ command: { $case: 'submit', value: { handle, request: generation({ sampling: wanted }) } } });
  }
  // grpc-js holds the sender back only from the first read on.
  const responses = call.responses[Symbol.asyncIterator]();
  assert.equal((await responses.next()).done, false);
  const deadline = Date.now() + 30_000;
  do await new Promise((resolve) => setTimeout(resolve, 100));
  while (service.native.load().running > 0 && Date.now() < deadline);
  const counts = { tokens: 0, largest: 0, ends: 0 };
  while (counts.ends < 3) {
    const { step } = (await responses.next()).value as SessionResponse;
    for (const event of step?.tokens ?? []) {
      counts.tokens += event.tokenIds.length;
      counts.largest = Math.max(counts.largest, event.tokenIds.length);
      assert.equal(event.logprobs.length, event.tokenIds.length);
    }
    counts.ends += step?.finished.length ?? 0;
  }
  assert.ok(counts.tokens > 5_900 && counts.tokens < 6_000, 'all but those of the first answer');
  assert.ok(counts.largest > 50, `expected merged steps, the largest event had ${counts.largest} tokens`);
});

test('session: a storm of submits and cancels leaves nothing behind', { skip }, async (t) => {
  const { client, service, metrics } = await startTinyEngine(t, { QUERN_ENGINE_MAX_WAITING: '64' });
  const session = new TestSession(client);
  t.after(() => session.call.cancel());
  const total = 1_500;
  let seed = 12345;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed % below;
  };
  for (let handle = 0; handle < total; handle += 1) {
    const wanted = sampling({ maxTokens: random(12), n: 1 });
    const extra = random(5) === 0 ? { supersedeKey: `buffer-${random(3)}` } : {};
    const timeout = random(7) === 0 ? { timeoutMs: 1 + random(30) } : {};
    session.submit(handle, generation({ sampling: wanted, tenant: `t${random(3)}`, ...extra, ...timeout }));
    if (random(3) === 0) session.cancel(random(handle + 1));
    if (handle % 40 === 39) await session.until(() => session.finished.size > handle - 80);
  }
  await session.until(() => session.finished.size === total);
  await untilIdle(service);
  const reasons = new Set([...session.finished.values()].map((end) => end.choices[0]?.reason));
  assert.ok(reasons.has(2) && reasons.has(3), 'some ran to their end and some were cancelled');
  assert.match(await metrics.render(), /quern_engine_orphan_requests\{[^}]*\} 0/);
});
