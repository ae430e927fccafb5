// What an operator does with the log over a running service: verify it, take it along, follow it, forget somebody.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExportManifest, ExportRequest, TailResponse, VerifyResponse } from '#gen/quern/audit/v1/audit.ts';
import { newSigningKey, parseVerifierKey, signCheckpoint, signerOf } from '#kit/audit/checkpoint.ts';
import { ContentStore } from '#kit/audit/content-store.ts';
import { leafHash, MerkleFrontier } from '#kit/audit/merkle.ts';
import { verifyLog } from '#kit/audit/verify.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import { ORIGIN, setUp } from './support/service.ts';
import { undo } from './support/undo.ts';

type Set = Awaited<ReturnType<typeof setUp>>;

async function verify({ client, options }: Set, trustedCheckpoint = ''): Promise<VerifyResponse> {
  let last: VerifyResponse | null = null;
  for await (const one of serverStream(client, 'verify', { trustedCheckpoint }, options)) last = one;
  assert.ok(last);
  return last;
}

async function exported({ client, options }: Set, over: Partial<ExportRequest> = {}) {
  const records: Buffer[] = [];
  let manifest: ExportManifest | null = null;
  for await (const { part } of serverStream(client, 'export', { since: '', until: '', ...over }, options)) {
    assert.equal(manifest, null, 'the manifest is the last message');
    if (part?.$case === 'manifest') manifest = part.value;
    else records.push(...(part?.value.records ?? []).map((bytes) => Buffer.from(bytes)));
  }
  assert.ok(manifest);
  return { records, manifest };
}

function verifyOffline(records: readonly Buffer[], manifest: ExportManifest) {
  const { origin, verifierKeys, checkpoints, producers } = manifest;
  const [first, count, treeSize] = [manifest.first, manifest.count, manifest.treeSize].map(Number) as [
    number,
    number,
    number,
  ];
  const buffers = (hashes: readonly Uint8Array[]): Buffer[] => hashes.map((hash) => Buffer.from(hash));
  return verifyLog({
    records,
    part: { first, end: first + count, treeSize, before: buffers(manifest.before), after: buffers(manifest.after) },
    heads: new Map(producers.map(({ producer, seq, sha256 }) => [producer, { seq: Number(seq), sha256 }])),
    origin,
    verifiers: verifierKeys.map(parseVerifierKey),
    checkpoints,
  });
}

/** Waits until a record of this action is in the log; answers it. */
async function told({ client, options }: Set, action: string, tenant = 'acme'): Promise<TailResponse> {
  for await (const row of serverStream(client, 'tail', { tenant, backlog: 1000 }, options)) {
    if (row.action === action) return row;
  }
  throw new Error(`no ${action}`);
}

test('a whole log is ok, also against a checkpoint that was kept; one by another key is not', async (t) => {
  const set = await setUp(t);
  await set.request('ada', 'a1');
  await set.recorded(2);
  await set.restart(); // signs
  const { checkpoint, records } = await set.head();
  await set.request('bob', 'b1');
  await set.recorded(4);
  const result = await verify(set, checkpoint);
  assert.deepEqual([result.verdict, result.index, result.checkpoint], ['ok', undefined, checkpoint]);
  assert.ok(result.records >= 4n && result.covered >= records - 1n);
  const stranger = signerOf(ORIGIN, newSigningKey());
  const frontier = new MerkleFrontier();
  frontier.append(leafHash(Buffer.from('x')));
  const forged = signCheckpoint({ origin: ORIGIN, size: 1, root: frontier.root() }, stranger);
  assert.equal((await verify(set, forged)).verdict, 'bad_signature');
  await assert.rejects(verify(set, 'x'.repeat(5_000)), { code: 'INVALID_ARGUMENT', message: /trusted_checkpoint/ });
  const message = /trusted_checkpoint: expected a signed checkpoint, got text that is none/;
  await assert.rejects(verify(set, 'not a note'), { code: 'INVALID_ARGUMENT', message });
});

test('a ledger that was changed on the disk is found, with the place', async (t) => {
  const set = await setUp(t);
  for (let i = 0; i < 5; i += 1) await set.request('ada', `a${i}`);
  await set.recorded(10);
  assert.equal((await verify(set)).verdict, 'ok');
  const folder = join(set.config.dir, 'ledger', 'records');
  const [name = ''] = await readdir(folder);
  const bytes = await readFile(join(folder, name));
  bytes[bytes.indexOf('quern-mini')]! ^= 1;
  await writeFile(join(folder, name), bytes);
  const { verdict, index, message } = await verify(set);
  assert.deepEqual([verdict, index], ['altered', 1n], 'behind the start of the service');
  assert.match(message, /has changed at byte \d+/);
});

test('an export verifies offline, whole and by time, and is in the log before it goes out', async (t) => {
  const set = await setUp(t);
  await set.request('ada', 'a1');
  await set.recorded(2);
  const middle = new Date().toISOString();
  await set.request('bob', 'b1');
  await set.recorded(4);
  const whole = await exported(set);
  assert.equal(whole.manifest.count, BigInt(whole.records.length));
  assert.deepEqual((await verifyOffline(whole.records, whole.manifest)).verdict, 'ok');
  assert.equal((await told(set, 'audit.exported', 'local')).actorKind, 'operator');
  const late = await exported(set, { since: middle });
  assert.ok(late.records[0]?.includes('"request_id":"b1"'));
  assert.deepEqual((await verifyOffline(late.records, late.manifest)).verdict, 'ok');
  const early = await exported(set, { until: middle });
  assert.deepEqual([early.manifest.first, early.records.length], [0n, 3]);
  assert.deepEqual((await verifyOffline(early.records, early.manifest)).verdict, 'ok');
  const changed = early.records.map((bytes) => Buffer.from(bytes.toString().replace('"STOP"', '"NONE"')));
  assert.notEqual((await verifyOffline(changed, early.manifest)).verdict, 'ok');
  const none = await exported(set, { since: '2999-01-01T00:00:00Z' });
  assert.deepEqual([none.records.length, (await verifyOffline([], none.manifest)).verdict], [0, 'ok']);
  await assert.rejects(exported(set, { since: 'yesterday' }), {
    code: 'INVALID_ARGUMENT',
    message: /since: expected an RFC 3339/,
  });
});

test('tail gives what is there and what comes, to its tenant only, and ends when the service drains', async (t) => {
  const set = await setUp(t);
  await set.request('ada', 'a1');
  await set.recorded(2);
  const seen: TailResponse[] = [];
  const following = (async () => {
    for await (const row of serverStream(set.client, 'tail', { tenant: 'acme', backlog: 1 }, set.options))
      seen.push(row);
  })();
  const until = async (requestId: string): Promise<void> => {
    while (!seen.some((row) => row.requestId === requestId)) await sleep(10);
  };
  await until('a1');
  await set.request('bob', 'b1');
  await until('b1');
  assert.ok(
    seen.some(({ action }) => action === 'audit.read'),
    'the reading itself',
  );
  assert.ok(seen.every(({ index }, i) => i === 0 || index > seen[i - 1]!.index));
  await set.stop();
  await following;
  const bad = serverStream(set.client, 'tail', { tenant: '', backlog: 0 }, set.options).next();
  await assert.rejects(bad, { code: /INVALID_ARGUMENT|UNAVAILABLE/ });
});

test('one of two users is erased: recorded first, readable no more; the other reads on and the log verifies', async (t) => {
  const set = await setUp(t);
  await set.request('ada', 'a1');
  await set.request('bob', 'b1');
  await set.recorded(4);
  const before = await exported(set);
  const { userRef } = await unary(set.client, 'erase', { tenant: 'acme', user: 'ada' }, set.options);
  const record = await told(set, 'audit.erased');
  assert.deepEqual([record.target, record.outcome, record.actor], [userRef, 'ok', 'local/local']);
  const [bob, ada] = await set.query();
  assert.deepEqual([ada?.requestId, ada?.user, ada?.userRef, ada?.clientIp, ada?.keyId], ['a1', '', userRef, '', '']);
  assert.deepEqual([bob?.user, bob?.clientIp], ['bob', '192.0.2.7']);
  assert.deepEqual(await set.query({ user: 'ada' }), []);
  assert.equal((await verify(set)).verdict, 'ok');
  assert.equal((await verifyOffline(before.records, before.manifest)).verdict, 'ok');
  await assert.rejects(unary(set.client, 'erase', { tenant: 'acme', user: 'ada' }, set.options), {
    code: 'NOT_FOUND',
    message: /no user "ada" of tenant "acme" is known/,
  });
  await assert.rejects(unary(set.client, 'erase', { tenant: 'acme', user: '' }, set.options), {
    code: 'INVALID_ARGUMENT',
  });
  await set.request('ada', 'a2'); // a new person of that name
  let again = await set.query({ user: 'ada' });
  for (; again.length === 0; again = await set.query({ user: 'ada' })) await sleep(10);
  assert.deepEqual([again[0]?.requestId, again[0]?.userRef === userRef], ['a2', false]);
});

const RUN_KINDS = ['tool', 'agent', 'request'];

test('a run, its turn and its tool call are found by every id that their user holds', async (t) => {
  const set = await setUp(t);
  const [ada, bob] = ['ada', 'bob'].map((id) => set.vault.subject({ tenant: 'acme', kind: 'user', id }));
  const actor = { kind: 'user', ref: ada!.ref } as const;
  const shared = { tenant: 'acme', actor, request_id: 'run-1', trace_id: 'e'.repeat(32), outcome: 'ok' } as const;
  await set.outbox.append({ ...shared, action: 'agent.started', target: 'quern-mini' });
  await set.request('ada', 'run-1');
  const facts = { target: 'run_code', execution_id: 'X1', tool_sha: 'a'.repeat(64), tool_version: '2' };
  const sealed = ada!.seal({ key_id: 'k1', session_id: 's1', call_id: 'c1' });
  const macs = { args_mac: 'b'.repeat(64), policy_sha: 'c'.repeat(64), sealed };
  const call = await set.outbox.append({ ...shared, ...facts, ...macs, action: 'tool.requested' });
  const ofCall = { ...shared, target: 'run_code', execution_id: 'X1', parent_id: call.id };
  const approver = { kind: 'user', ref: bob!.ref } as const;
  await set.outbox.append({ ...ofCall, actor: approver, action: 'tool.approved' });
  await set.outbox.append({ ...ofCall, action: 'tool.finished', reason: 'OK', usage: { run_ms: 5 } });
  await set.outbox.append({ ...shared, action: 'agent.finished', reason: 'DONE', usage: { turns: 1 } });
  await set.recorded(7);
  const asked = { kinds: RUN_KINDS, requestId: 'run-1' };
  let rows = await set.query(asked);
  for (; rows.some(({ finished }) => finished === '') || rows.length < 3; rows = await set.query(asked))
    await sleep(10);
  assert.deepEqual(
    rows.map(({ kind, user, model, reason }) => [kind, user, model, reason]),
    [
      ['tool', 'ada', '', 'OK'],
      ['request', 'ada', 'quern-mini', 'STOP'],
      ['agent', 'ada', 'quern-mini', 'DONE'],
    ],
  );
  const { tool, keyId, usage } = rows[0]!;
  assert.deepEqual([keyId, usage.get('run_ms')], ['k1', 5n]);
  assert.deepEqual(tool, {
    name: 'run_code',
    version: '2',
    sha256: 'a'.repeat(64),
    executionId: 'X1',
    callId: 'c1',
    sessionId: 's1',
    approval: 'approved',
    approvedBy: 'bob',
    approvalReason: '',
    policySha256: 'c'.repeat(64),
    argumentsMac: 'b'.repeat(64),
  });
  for (const requestId of ['chatcmpl-run-1', 'cmpl-run-1'])
    assert.equal((await set.query({ ...asked, requestId })).length, 3);
  assert.deepEqual(
    (await set.query({ ...asked, requestId: 'X1' })).map(({ kind }) => kind),
    ['tool'],
  );
  assert.equal((await set.query({ kinds: RUN_KINDS, user: 'ada' })).length, 3);
  assert.equal((await set.query()).length, 1, 'who does not ask for more gets requests');
  await assert.rejects(set.query({ kinds: ['call'] }), { code: 'INVALID_ARGUMENT', message: /kinds: expected/ });
  for (const user of ['bob', 'ada']) await unary(set.client, 'erase', { tenant: 'acme', user }, set.options);
  const [forgotten] = await set.query(asked);
  const { tool: left, ...row } = forgotten!;
  assert.deepEqual([row.user, row.keyId, left?.sessionId, left?.callId, left?.approvedBy], ['', '', '', '', '']);
  assert.deepEqual([left?.name, left?.approval], ['run_code', 'approved']);
});

test('the name of an erased user is nowhere in the log, not even where somebody asked for it', async (t) => {
  const set = await setUp(t);
  await set.request('ada-lovelace', 'a1');
  await set.recorded(2);
  await set.query({ user: 'ada-lovelace' });
  await set.recorded(3);
  await unary(set.client, 'erase', { tenant: 'acme', user: 'ada-lovelace' }, set.options);
  await told(set, 'audit.erased');
  const { records } = await exported(set);
  const texts = records.flatMap((bytes) => {
    const { tenant, actor, sealed } = JSON.parse(bytes.toString()) as {
      tenant: string;
      actor: { ref: string };
      sealed?: string;
    };
    return [bytes.toString(), sealed ? JSON.stringify(set.vault.unseal(tenant, actor.ref, sealed)) : ''];
  });
  assert.ok(
    texts.some((text) => text.includes('since')),
    'what was asked for is readable',
  );
  assert.equal(
    texts.some((text) => text.includes('lovelace')),
    false,
  );
});

test('a prompt and an answer that a policy keeps are shown to who asks for them, until their user is erased', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-content-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  const set = await setUp(t, { contentDir: dir });
  const store = await ContentStore.open(dir);
  undo(t, () => store.close());
  const who = set.vault.subject({ tenant: 'acme', kind: 'user', id: 'ada' });
  const policy = { prompts: true, responses: true, max_bytes: 4096, redact: true, sha: '0'.repeat(64) } as const;
  const kept = await store.keep(who, policy, { kind: 'prompt', text: 'def add(a, b):' });
  assert.ok(kept);
  const actor = { kind: 'user', ref: who.ref } as const;
  const shared = { tenant: 'acme', actor, request_id: 'a1', action: 'request.accepted', outcome: 'ok' } as const;
  const accepted = await set.outbox.append({ ...shared, content_ref: kept.content_ref });
  const answered = await store.keep(who, policy, { kind: 'response', text: '\n    return a + b' });
  assert.ok(answered);
  const end = { ...shared, action: 'request.finished', parent_id: accepted.id } as const;
  await set.outbox.append({ ...end, content_ref: answered.content_ref });
  await set.request('bob', 'b1');
  await set.recorded(4);
  const texts = async (asked: { withPrompts: boolean; withAnswers: boolean }): Promise<(string | undefined)[]> => {
    const rows = await set.query(asked);
    return rows.reverse().flatMap(({ prompt, answer }) => [prompt, answer]);
  };
  while ((await set.query()).length < 2) await sleep(10);
  const both = { withPrompts: true, withAnswers: true };
  const [prompt, answer, none] = ['def add(a, b):', '\n    return a + b', undefined];
  assert.deepEqual(await texts(both), [prompt, answer, none, none]);
  assert.deepEqual(await texts({ ...both, withAnswers: false }), [prompt, none, none, none]);
  assert.deepEqual(await texts({ ...both, withPrompts: false }), [none, answer, none, none]);
  assert.deepEqual(await texts({ withPrompts: false, withAnswers: false }), [none, none, none, none]);
  await unary(set.client, 'erase', { tenant: 'acme', user: 'ada' }, set.options);
  assert.deepEqual(await texts(both), [none, none, none, none]);
});
