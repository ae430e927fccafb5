import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { type AuditRecord, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import type { LedgerEntry } from '../../../services/audit/ledger.ts';
import { Projection } from '../../../services/audit/projection.ts';
import { type RequestQuery, requestsSql, VIEW_SQL } from '../../../services/audit/view-sql.ts';

let made = 0;

function record(over: Partial<AuditRecord>): AuditRecord {
  made += 1;
  return {
    v: 1,
    id: `id-${made}`,
    ts: new Date(Date.UTC(2026, 0, 1) + made * 1000).toISOString(),
    mono_ns: '1',
    producer: 'gateway-1',
    epoch: 1,
    seq: made,
    prev: '0'.repeat(64),
    tenant: 't',
    actor: { kind: 'user', ref: 'ada' },
    action: 'request.accepted',
    outcome: 'ok',
    ...over,
  };
}

const entries = (records: readonly AuditRecord[], from = 0): LedgerEntry[] =>
  records.map((one, i) => ({ index: from + i, bytes: recordBytes(one) }));

const pair = (id: string, over: Partial<AuditRecord> = {}): AuditRecord[] => [
  record({ request_id: id, target: 'model', trace_id: 'f'.repeat(32), ...over }),
  record({ ...over, request_id: id, action: 'request.finished', usage: { output_tokens: 3 }, reason: 'STOP' }),
];

function open(t: TestContext, path = ':memory:'): Projection {
  const projection = Projection.open(path);
  t.after(() => projection.close());
  return projection;
}

test('accepted and finished make one row; what is not finished is shown so', (t) => {
  const projection = open(t);
  const [accepted, finished] = pair('r1');
  projection.apply(entries([accepted!]));
  const find = () => projection.requests({ tenant: 't', requestId: 'r1', limit: 10 });
  assert.equal(find()[0]?.finished_ts, null);
  projection.apply(entries([finished!], 1));
  const [row, ...more] = find();
  assert.equal(more.length, 0);
  assert.deepEqual(
    [row?.model, row?.outcome, row?.reason, row?.usage, row?.accepted_idx, row?.finished_idx],
    ['model', 'ok', 'STOP', '{"output_tokens":3}', 0, 1],
  );
  projection.apply(entries(pair('r1').slice(1), 2));
  assert.equal(find()[0]?.finished_idx, 1, 'the first end counts');
});

test('a request id that is used again is a row of its own, and each end finds its request', (t) => {
  const projection = open(t);
  const [first, firstEnd] = pair('same');
  const [second, secondEnd] = pair('same');
  const ending = (accepted: AuditRecord, end: AuditRecord, reason: string) => ({
    ...end,
    parent_id: accepted.id,
    reason,
  });
  const ends = [ending(second!, secondEnd!, 'SECOND'), ending(first!, firstEnd!, 'FIRST')];
  projection.apply(entries([first!, second!, ...ends]));
  const rows = projection.requests({ tenant: 't', requestId: 'same', limit: 10 });
  assert.deepEqual(
    rows.map((row) => [row.id, row.reason, row.finished_idx]),
    [
      [second!.id, 'SECOND', 2],
      [first!.id, 'FIRST', 3],
    ],
  );
});

test('how far a producer is covered: no gap below, all under the size; what comes late fills in', (t) => {
  const projection = open(t);
  const at = (seq: number) => record({ seq, producer: 'p' });
  projection.apply(entries([at(1), at(2), at(4), at(5)]));
  assert.deepEqual(projection.coverage('p', 4), { seq: 2, index: 1 });
  assert.deepEqual(projection.coverage('p', 1), { seq: 1, index: 0 });
  assert.equal(projection.coverage('p', 0), null);
  assert.equal(projection.coverage('other', 4), null);
  projection.apply(entries([at(3), at(6)], 4));
  assert.deepEqual(projection.coverage('p', 6), { seq: 6, index: 5 });
  assert.deepEqual(projection.coverage('p', 4), { seq: 2, index: 1 }, 'record 3 lies above');
});

test('records that come again change nothing; the chain heads are known', (t) => {
  const projection = open(t);
  const all = entries([...pair('r1'), ...pair('r2')]);
  projection.apply(all);
  const digest = projection.digest();
  projection.apply(all);
  projection.apply(all.slice(1, 3));
  assert.equal(projection.digest(), digest);
  assert.equal(projection.nextIndex, 4);
  const last = all[3]!.bytes;
  assert.deepEqual({ ...projection.chainHead('gateway-1') }, { seq: made, sha256: sha256Hex(last) });
  assert.equal(projection.chainHead('other'), null);
});

test('dropped and made again it has the same digest, in whatever portions', (t) => {
  const records = Array.from({ length: 50 }, (_, i) => pair(`r${i}`)).flat();
  const all = [...entries(records), { index: 100, bytes: Buffer.from('not a record') }, ...entries(pair('last'), 101)];
  const digests = [1, 7, 1000].map((portion) => {
    const projection = open(t);
    for (let at = 0; at < all.length; at += portion) projection.apply(all.slice(at, at + portion));
    assert.equal(projection.nextIndex, 103);
    return projection.digest();
  });
  assert.equal(new Set(digests).size, 1);
});

test('queries stay inside the tenant, and filter by user, time, request and trace', (t) => {
  const projection = open(t);
  const bob = { actor: { kind: 'user', ref: 'bob' } } as const;
  const records = [
    ...pair('a1'),
    ...pair('b1', bob),
    ...pair('x1', { tenant: 'other' }),
    ...pair('a2', { trace_id: 'e'.repeat(32) }),
  ];
  projection.apply(entries(records));
  const ids = (query: Partial<Parameters<Projection['requests']>[0]>): string[] =>
    projection.requests({ tenant: 't', limit: 10, ...query }).map(({ request_id: id }) => id);
  assert.deepEqual(ids({}), ['a2', 'b1', 'a1']);
  assert.deepEqual(ids({ actorRef: 'ada' }), ['a2', 'a1']);
  assert.deepEqual(ids({ tenant: 'other' }), ['x1']);
  assert.deepEqual(ids({ requestId: 'x1' }), []);
  assert.deepEqual(ids({ traceId: 'e'.repeat(32) }), ['a2']);
  assert.deepEqual(ids({ since: records[2]!.ts }), ['a2', 'b1']);
  assert.deepEqual(ids({ until: records[2]!.ts }), ['a1']);
  assert.deepEqual(ids({ actorRef: "x' OR 1=1 --" }), []);
});

test('pages follow one another without a gap or a double', (t) => {
  const projection = open(t);
  const ts = '2026-01-02T00:00:00.000Z'; // all at one time: the request id decides
  projection.apply(
    entries(Array.from({ length: 25 }, (_, i) => record({ request_id: `r${String(i).padStart(2, '0')}`, ts }))),
  );
  const seen: string[] = [];
  let after: { accepted_ts: string; accepted_idx: number } | undefined;
  while (true) {
    const page = projection.requests({ tenant: 't', limit: 10, until: '2026-01-02T00:00:00.001Z', after });
    seen.push(...page.map(({ request_id: id }) => id));
    after = page.at(-1);
    if (page.length < 10) break;
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 25 }, (_, i) => `r${String(24 - i).padStart(2, '0')}`),
  );
});

test('it outlives a restart; a file of another schema is made anew', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'view.sqlite');
  const first = Projection.open(path);
  first.apply(entries(pair('r1')));
  first.close();
  const second = Projection.open(path);
  assert.equal(second.nextIndex, 2);
  second.close();
  const raw = new DatabaseSync(path);
  raw.exec('PRAGMA user_version = 99');
  raw.close();
  const third = open(t, path);
  assert.equal(third.nextIndex, 0);
  assert.deepEqual(third.requests({ tenant: 't', limit: 10 }), []);
});

/** What EXPLAIN QUERY PLAN says of each statement: by which index, and how much of it is given. */
const PLANS: Record<keyof typeof VIEW_SQL, string[]> = {
  recordsOfTenant: ['SEARCH records USING INDEX records_by_tenant (tenant=? AND rowid>?)'],
  backlog: [
    'CO-ROUTINE (subquery-1)',
    'SEARCH records USING COVERING INDEX records_by_tenant (tenant=?)',
    'SEARCH (subquery-1)',
  ],
  lowestSeqFrom: ['SEARCH records USING INTEGER PRIMARY KEY (rowid>?)'],
  placeOf: ['SEARCH records USING COVERING INDEX records_by_producer (producer=? AND seq=?)'],
  gaps: [
    'SCAN producers',
    'CORRELATED SCALAR SUBQUERY 1',
    'SEARCH records USING COVERING INDEX records_by_producer (producer=? AND seq>?)',
  ],
  countBetween: ['SEARCH records USING COVERING INDEX records_by_producer (producer=? AND seq>? AND seq<?)'],
  gapRecords: ['SEARCH records USING INDEX records_by_action (tenant=? AND action=?)'],
  prunable: ['SEARCH records USING INTEGER PRIMARY KEY (rowid<?)'],
  dropBlank: [
    'SEARCH records USING INDEX records_by_tenant (tenant=?)',
    'CORRELATED SCALAR SUBQUERY 1',
    'SEARCH p USING PRIMARY KEY (producer=?)',
  ],
  finish: [
    'SEARCH requests USING PRIMARY KEY (id=?)',
    'SCALAR SUBQUERY 1',
    'SEARCH requests USING INDEX requests_by_request (tenant=? AND request_id=?)',
    'USE TEMP B-TREE FOR ORDER BY', // of the requests of one id
  ],
};

test('every statement takes the way through the tables that reads least', (t) => {
  const projection = open(t);
  for (const name of Object.keys(PLANS) as (keyof typeof PLANS)[])
    assert.deepEqual(projection.planOf(VIEW_SQL[name]), PLANS[name], name);
});

test('queries by user, trace, request or time go by the index of that, already in order', (t) => {
  const projection = open(t);
  const since = '2026-01-01T00:00:00.000Z';
  const after = { accepted_ts: since, accepted_idx: 7 };
  const below = '(accepted_ts,accepted_idx)<(?,?)';
  const cases: [Partial<RequestQuery>, string][] = [
    [{}, 'time (tenant=?)'],
    [{ since }, 'time (tenant=? AND accepted_ts>?)'],
    [{ since, until: since }, 'time (tenant=? AND accepted_ts>? AND accepted_ts<?)'],
    [{ until: since, after }, `time (tenant=? AND ${below})`],
    [{ actorRef: 'a' }, 'actor (tenant=? AND actor_ref=?)'],
    [{ actorRef: 'a', since }, 'actor (tenant=? AND actor_ref=? AND accepted_ts>?)'],
    [{ actorRef: 'a', after }, `actor (tenant=? AND actor_ref=? AND ${below})`],
    [{ actorRef: 'a', since, until: since, after }, `actor (tenant=? AND actor_ref=? AND accepted_ts>? AND ${below})`],
    [{ traceId: 'x' }, 'trace (tenant=? AND trace_id=?)'],
    [{ traceId: 'x', actorRef: 'a', since }, 'trace (tenant=? AND trace_id=? AND accepted_ts>?)'],
    [{ requestId: 'r' }, 'request (tenant=? AND request_id=?)'],
    [{ requestId: 'r', traceId: 'x', actorRef: 'a' }, 'request (tenant=? AND request_id=?)'],
  ];
  for (const [over, index] of cases) {
    const { sql, values } = requestsSql({ tenant: 't', limit: 10, ...over });
    assert.equal(sql.split('?').length - 1, values.length);
    assert.deepEqual(projection.planOf(sql), [`SEARCH requests USING INDEX requests_by_${index}`]);
  }
});

test('the records of a tenant come in the order of the log, from an index on or so many from the end', (t) => {
  const projection = open(t);
  const tenants = ['t', 'other', 't', 't', 'other', 't'];
  projection.apply(entries(tenants.map((tenant) => record({ tenant }))));
  const indexes = (from: number, limit: number): number[] =>
    projection.records({ tenant: 't', from, limit }).map(({ idx }) => idx);
  assert.deepEqual(indexes(0, 10), [0, 2, 3, 5]);
  assert.deepEqual(indexes(1, 2), [2, 3]);
  assert.deepEqual(indexes(6, 2), []);
  assert.deepEqual(
    [0, 1, 3, 9].map((count) => projection.indexBefore('t', count)),
    [6, 5, 2, 0],
  );
  assert.equal(projection.indexBefore('nobody', 3), 6);
});
