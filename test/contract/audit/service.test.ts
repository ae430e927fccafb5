// The audit service on a real nats-server: records of a gateway come in, questions and proofs go out.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { QueryRequest } from '#gen/quern/audit/v1/audit.ts';
import { openCheckpoint, parseVerifierKey } from '#kit/audit/checkpoint.ts';
import { verifyConsistency, verifyInclusion } from '#kit/audit/merkle.ts';
import { createMetrics } from '#kit/metrics.ts';
import { unary } from '#kit/rpc/client.ts';
import type { AuditConfig } from '../../../services/audit/config.ts';
import { startAudit } from '../../../services/audit/service.ts';
import { log, ORIGIN, setUp } from './support/service.ts';

test('who asked what, when, with what result: one row per request, by user, time, request and trace', async (t) => {
  const { request, recorded, query } = await setUp(t);
  await request('ada', 'a1');
  await request('bob', 'b1');
  await request('ada', 'a2');
  await recorded(6);
  const ids = async (over: Partial<QueryRequest>) => (await query(over)).map(({ requestId }) => requestId);
  assert.deepEqual(await ids({}), ['a2', 'b1', 'a1']);
  assert.deepEqual(await ids({ user: 'ada' }), ['a2', 'a1']);
  assert.deepEqual(await ids({ user: 'nobody' }), []);
  assert.deepEqual(await ids({ traceId: 'b1'.padEnd(32, '0') }), ['b1']);
  assert.deepEqual(await ids({ limit: 1 }), ['a2']);
  assert.deepEqual(await ids({ since: '2999-01-01T00:00:00Z' }), []);
  assert.deepEqual(await ids({ tenant: 'other' }), []);
  const [row] = await query({ requestId: 'b1' });
  assert.deepEqual(
    [row?.user, row?.clientIp, row?.keyId, row?.model, row?.outcome, row?.reason, row?.usage.get('output_tokens')],
    ['bob', '192.0.2.7', 'k1', 'quern-mini', 'ok', 'STOP', 7n],
  );
  assert.ok(row && row.accepted <= row.finished);
  await assert.rejects(query({ tenant: '' }), {
    code: 'INVALID_ARGUMENT',
    message: /tenant: expected the name of a tenant/,
  });
  await assert.rejects(query({ since: 'yesterday' }), {
    code: 'INVALID_ARGUMENT',
    message: /since: expected an RFC 3339 time/,
  });
});

test('every record is proved against a signed checkpoint that a witness has, and an older one is its beginning', async (t) => {
  const { dir, client, request, recorded, head, options, restart } = await setUp(t);
  await request('ada', 'a1');
  await recorded(2);
  await restart(); // signs what is new when it closes
  const old = await head();
  for (let i = 0; i < 5; i += 1) await request('ada', `x${i}`);
  await recorded(12);
  await restart();
  const { checkpoint, verifierKey } = await head();
  const key = parseVerifierKey(verifierKey);
  const [first, newest] = [old.checkpoint, checkpoint].map((note) => openCheckpoint(note, ORIGIN, [key]));
  assert.ok(first && newest && first.size < newest.size);
  const witness = (await readFile(join(dir, 'witness.jsonl'), 'utf8')).trim().split('\n');
  assert.deepEqual(
    witness.map((line) => (JSON.parse(line) as { note: string }).note),
    [old.checkpoint, checkpoint],
  );
  for (let index = 0; index < newest.size; index += 1) {
    const asked = { index: BigInt(index), treeSize: BigInt(newest.size), oldTreeSize: BigInt(first.size) };
    const { leaf, inclusion, consistency } = await unary(client, 'prove', asked, options);
    const { size, root } = newest;
    assert.ok(verifyInclusion({ leaf, index, size, root, proof: inclusion }));
    const both = { first: first.size, firstRoot: first.root, second: size, secondRoot: root };
    assert.ok(verifyConsistency({ ...both, proof: consistency }));
  }
  await assert.rejects(unary(client, 'prove', { index: 99n, treeSize: 0n, oldTreeSize: 0n }, options), {
    code: 'INVALID_ARGUMENT',
    message: /index: expected below \d+, the size of the tree, got 99/,
  });
});

test('reading is recorded; an erased person is nobody, the rows and the proofs stay', async (t) => {
  const { vault, request, recorded, query, head } = await setUp(t);
  await request('ada', 'a1');
  await request('bob', 'b1');
  await recorded(4);
  assert.equal((await query()).length, 2);
  await recorded(5); // the record of that reading
  const root = (await head()).records;
  vault.erase({ tenant: 'acme', kind: 'user', id: 'ada' });
  const [bob, ada] = await query();
  assert.deepEqual([ada?.requestId, ada?.user, ada?.clientIp, ada?.outcome], ['a1', '', '', 'ok']);
  assert.deepEqual([bob?.user, bob?.clientIp], ['bob', '192.0.2.7']);
  assert.deepEqual(await query({ user: 'ada' }), []);
  assert.ok((await head()).records >= root);
});

test('a second service on the same folder is refused, and so are keys that did not sign its checkpoints', async (t) => {
  const { config, request, recorded, stop } = await setUp(t);
  await request('ada', 'a1');
  await recorded(2);
  const second = { ...config, listen: `${config.listen}2` };
  const start = (over: AuditConfig) => startAudit({ config: over, log, metrics: createMetrics('audit') });
  await assert.rejects(start(second), {
    code: 'FAILED_PRECONDITION',
    message: /is in use by process \d+; expected one writer/,
  });
  await stop(); // signs what is new
  await assert.rejects(start({ ...second, keyDir: `${config.keyDir}-other` }), {
    code: 'DATA_LOSS',
    message: /the newest checkpoint does not open with this key/,
  });
});
