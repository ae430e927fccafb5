// Whose token may do what at the audit service; that a refusal is in the log; that asking for nobody makes nobody.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AuditServiceClient, type TailResponse } from '#gen/quern/audit/v1/audit.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { setUp } from './support/service.ts';
import { undo } from './support/undo.ts';

const OPERATOR = 'a-token-of-operators-0123456789abcdef';
const MESH = 'a-token-of-the-mesh-0123456789abcdef';

async function drained(stream: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of stream) count += 1;
  return count;
}

test("a producer gets coverage, heads and proofs; reading and erasing need the operators' token, refusals are recorded", async (t) => {
  const set = await setUp(t, { internal: { token: MESH, tls: null }, operatorToken: OPERATOR });
  await set.request('ada', 'a1');
  const as = (sharedToken: string) => {
    const client = openChannel(AuditServiceClient, { address: set.config.listen, sharedToken });
    undo(t, () => client.close());
    return client;
  };
  const [producer, operator] = [as(MESH), as(OPERATOR)];
  const { options } = set;
  while ((await unary(producer, 'getHead', {}, options)).records < 2n) await sleep(10);
  const { producer: name } = set.outbox;
  await unary(producer, 'getCoverage', { producer: name, oldTreeSize: 0n }, options);
  await unary(producer, 'prove', { index: 0n, treeSize: 0n, oldTreeSize: 0n }, options);
  const all = {
    requestId: '',
    traceId: '',
    since: '',
    until: '',
    limit: 0,
    exports: false,
    withPrompts: false,
    withAnswers: false,
    kinds: [],
  };
  const calls = (client: typeof producer): Record<string, () => Promise<unknown>> => ({
    query: () => drained(serverStream(client, 'query', { tenant: 'acme', user: '', ...all }, options)),
    verify: () => drained(serverStream(client, 'verify', { trustedCheckpoint: '' }, options)),
    export: () => drained(serverStream(client, 'export', { since: '', until: '' }, options)),
    tail: () => serverStream(client, 'tail', { tenant: 'acme', backlog: 10 }, options).next(),
    erase: () => unary(client, 'erase', { tenant: 'acme', user: 'ada' }, options),
  });
  const refused = {
    code: 'PERMISSION_DENIED',
    message:
      /the audit log needs the token of its operators, and this call came as service:mesh; set QUERN_AUDIT_OPERATOR/,
  };
  for (const [what, call] of Object.entries(calls(producer))) await assert.rejects(call(), refused, what);
  for (const call of Object.values(calls(operator))) await call();
  const rows: TailResponse[] = [];
  const wanted = ['audit.read', 'audit.exported', 'audit.erased'];
  for await (const row of serverStream(operator, 'tail', { tenant: '_system', backlog: 100 }, options)) {
    if (row.outcome === 'denied') rows.push(row);
    if (rows.length === wanted.length) break;
  }
  assert.deepEqual(rows.map(({ action }) => action).sort(), wanted.sort());
  for (const { code, reason, actorKind, actorRef } of rows)
    assert.deepEqual(
      [code, reason, actorKind, actorRef],
      ['PERMISSION_DENIED', 'AUDIT_OPERATOR_ONLY', 'service', 'service:mesh'],
    );
});

test('on a socket without tokens the user of the mesh may; with a token for operators only who has it', async (t) => {
  const set = await setUp(t, { operatorToken: OPERATOR });
  await assert.rejects(set.query(), { code: 'PERMISSION_DENIED' });
  await unary(set.client, 'getHead', {}, set.options);
  const open = await setUp(t);
  assert.deepEqual(await open.query(), []);
});

test('asking for a tenant or user that never was makes no subject and no tenant, and is recorded under the own', async (t) => {
  const set = await setUp(t);
  await set.request('ada', 'a1');
  await set.recorded(2);
  const [before] = subjectsIn(join(set.config.keyDir, 'vault.sqlite'));
  assert.deepEqual(before, ['acme/user/ada']);
  assert.deepEqual(await set.query({ tenant: 'nowhere' }), []);
  assert.deepEqual(await set.query({ tenant: 'nowhere', user: 'nobody' }), []);
  assert.deepEqual(await set.query({ user: 'nobody' }), []);
  const stop = new AbortController();
  const tail = serverStream(
    set.client,
    'tail',
    { tenant: 'nowhere', backlog: 10 },
    { ...set.options, signal: stop.signal },
  );
  const next = tail.next().catch(() => null);
  await assert.rejects(unary(set.client, 'erase', { tenant: 'nowhere', user: 'ada' }, set.options), {
    code: 'NOT_FOUND',
  });
  await assert.rejects(unary(set.client, 'erase', { tenant: 'acme', user: 'nobody' }, set.options), {
    code: 'NOT_FOUND',
  });
  let reads = 0;
  for await (const row of serverStream(set.client, 'tail', { tenant: 'local', backlog: 100 }, set.options)) {
    if (row.action === 'audit.read') reads += 1;
    if (reads === 3) break; // two queries and a tail of a tenant that is none
  }
  stop.abort();
  await next;
  const [subjects, tenants] = subjectsIn(join(set.config.keyDir, 'vault.sqlite'));
  assert.deepEqual(subjects, ['acme/operator/local/local', 'acme/user/ada', 'local/operator/local/local']);
  assert.deepEqual(tenants, ['acme', 'local']);
});

function subjectsIn(path: string): [string[], string[]] {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const subjects = database
      .prepare("SELECT tenant || '/' || kind || '/' || id AS name FROM subjects ORDER BY 1")
      .all();
    const tenants = database.prepare('SELECT tenant AS name FROM tenants ORDER BY 1').all();
    return [subjects, tenants].map((rows) => (rows as { name: string }[]).map(({ name }) => name)) as [
      string[],
      string[],
    ];
  } finally {
    database.close();
  }
}
