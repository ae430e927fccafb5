import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { type AuditRecord, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import type { LedgerEntry } from '../../../services/audit/ledger.ts';
import { Projection } from '../../../services/audit/projection.ts';
import { REQUEST_KINDS, type RequestQuery, requestsSql, VIEW_SQL } from '../../../services/audit/view-sql.ts';

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
  record({ request_id: id, target: 'model', trace_id: 'f'.repeat(32), usage: { prompt_bytes: 15 }, ...over }),
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
  assert.deepEqual([find()[0]?.finished_ts, find()[0]?.usage], [null, '{"prompt_bytes":15}']);
  projection.apply(entries([finished!], 1));
  const [row, ...more] = find();
  assert.equal(more.length, 0);
  assert.deepEqual(
    [row?.target, row?.outcome, row?.reason, row?.usage, row?.accepted_idx, row?.finished_idx],
    ['model', 'ok', 'STOP', '{"prompt_bytes":15,"output_tokens":3}', 0, 1],
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
    'SEARCH requests USING INDEX requests_by_execution (tenant=? AND kind=? AND execution_id=?)',
    'USE TEMP B-TREE FOR ORDER BY', // of one
    'SCALAR SUBQUERY 2',
    'SEARCH requests USING INDEX requests_by_request (tenant=? AND kind=? AND request_id=?)',
    'USE TEMP B-TREE FOR ORDER BY', // of the requests of one id
  ],
  approve: ['SEARCH requests USING PRIMARY KEY (id=?)'],
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
    [{}, 'time (tenant=? AND kind=?)'],
    [{ since }, 'time (tenant=? AND kind=? AND accepted_ts>?)'],
    [{ since, until: since }, 'time (tenant=? AND kind=? AND accepted_ts>? AND accepted_ts<?)'],
    [{ until: since, after }, `time (tenant=? AND kind=? AND ${below})`],
    [{ actorRef: 'a' }, 'actor (tenant=? AND kind=? AND actor_ref=?)'],
    [{ actorRef: 'a', since }, 'actor (tenant=? AND kind=? AND actor_ref=? AND accepted_ts>?)'],
    [{ actorRef: 'a', after }, `actor (tenant=? AND kind=? AND actor_ref=? AND ${below})`],
    [
      { actorRef: 'a', since, until: since, after },
      `actor (tenant=? AND kind=? AND actor_ref=? AND accepted_ts>? AND ${below})`,
    ],
    [{ traceId: 'x' }, 'trace (tenant=? AND kind=? AND trace_id=?)'],
    [{ traceId: 'x', actorRef: 'a', since }, 'trace (tenant=? AND kind=? AND trace_id=? AND accepted_ts>?)'],
    [{ requestId: 'r' }, 'request (tenant=? AND kind=? AND request_id=?)'],
    [{ requestId: 'r', traceId: 'x', actorRef: 'a' }, 'request (tenant=? AND kind=? AND request_id=?)'],
  ];
  for (const [over, index] of cases) {
    const { sql, values } = requestsSql({ tenant: 't', limit: 10, ...over });
    assert.equal(sql.split('?').length - 1, values.length);
    assert.deepEqual(projection.planOf(sql), [`SEARCH requests USING INDEX requests_by_${index}`]);
  }
});

test('several kinds are merged, each by its index, and none of them is sorted', (t) => {
  const projection = open(t);
  const ways = (query: Partial<RequestQuery>): string[] => {
    const { sql, values } = requestsSql({ tenant: 't', limit: 10, kinds: REQUEST_KINDS, ...query });
    assert.equal(sql.split('?').length - 1, values.length);
    const plan = projection.planOf(sql);
    assert.ok(
      plan.every((step) => /^(?:MERGE|LEFT|RIGHT|SEARCH)/.test(step)),
      plan.join('; '),
    );
    return plan.flatMap((step) => /requests_by_(\w+)/.exec(step)?.[1] ?? []);
  };
  assert.deepEqual(ways({}), ['time', 'time', 'time']);
  assert.deepEqual(ways({ actorRef: 'a' }), ['actor', 'actor', 'actor']);
  assert.deepEqual(ways({ traceId: 'x', actorRef: 'a' }), ['trace', 'trace', 'trace']);
  assert.deepEqual(ways({ requestId: 'r' }), ['request', 'request', 'request', 'execution']);
  assert.equal(ways({ requestId: 'cmpl-r' }).length, 7);
});

/** A run of one turn and two calls, as gateway and tool service tell it. */
function run(id: string): AuditRecord[] {
  const shared = { request_id: id, trace_id: 'd'.repeat(32) };
  const call = {
    ...shared,
    execution_id: `x-${id}`,
    target: 'run_code',
    tool_sha: 'a'.repeat(64),
    producer: 'tools-1',
  };
  const details = { tool_version: '2', policy_sha: 'b'.repeat(64), args_mac: 'c'.repeat(64), usage: { args_bytes: 9 } };
  const started = record({ ...shared, action: 'agent.started', target: 'model' });
  const turn = pair(id, { trace_id: shared.trace_id });
  const requested = record({ ...call, ...details, action: 'tool.requested' });
  const lost = record({ ...call, execution_id: `y-${id}`, action: 'tool.requested' });
  const ofCall = { ...call, parent_id: requested.id };
  return [
    started,
    ...turn,
    requested,
    record({ ...ofCall, action: 'tool.approved', actor: { kind: 'user', ref: 'bob' } }),
    record({ ...ofCall, action: 'tool.finished', outcome: 'error', reason: 'NONZERO_EXIT', usage: { run_ms: 5 } }),
    lost,
    record({ ...call, execution_id: `y-${id}`, action: 'tool.finished', outcome: 'unknown', reason: 'RECOVERED' }),
    record({ ...shared, action: 'agent.finished', reason: 'DONE', usage: { turns: 1 } }),
  ];
}

test('a run, its turn and its tool calls are rows under one request id, each with its own end', (t) => {
  const projection = open(t);
  projection.apply(entries([...run('r1'), ...run('r2')]));
  const find = (query: Partial<RequestQuery>) => projection.requests({ tenant: 't', limit: 99, ...query });
  const all = find({ kinds: REQUEST_KINDS, requestId: 'r1' });
  assert.deepEqual(
    all.map((row) => [row.kind, row.target, row.execution_id, row.outcome, row.reason, row.usage]),
    [
      ['tool', 'run_code', 'y-r1', 'unknown', 'RECOVERED', '{}'],
      ['tool', 'run_code', 'x-r1', 'error', 'NONZERO_EXIT', '{"args_bytes":9,"run_ms":5}'],
      ['request', 'model', null, 'ok', 'STOP', '{"prompt_bytes":15,"output_tokens":3}'],
      ['agent', 'model', null, 'ok', 'DONE', '{"turns":1}'],
    ],
  );
  const [lost, call] = all;
  const { tool_version, tool_sha, policy_sha, args_mac, approval, approval_ref } = call!;
  assert.deepEqual(
    [tool_version, tool_sha?.[0], policy_sha?.[0], args_mac?.[0], approval, approval_ref],
    ['2', 'a', 'b', 'c', 'approved', 'bob'],
  );
  assert.equal(lost?.approval, null);
  assert.deepEqual(
    find({ requestId: 'r1' }).map(({ kind }) => kind),
    ['request'],
    'only requests, unless more is asked for',
  );
  for (const id of ['r1', 'cmpl-r1', 'chatcmpl-r1'])
    assert.equal(find({ kinds: REQUEST_KINDS, requestId: id }).length, 4, id);
  assert.deepEqual(
    find({ kinds: REQUEST_KINDS, requestId: 'x-r2' }).map(({ request_id: id }) => id),
    ['r2'],
  );
  assert.equal(find({ kinds: REQUEST_KINDS, traceId: 'd'.repeat(32) }).length, 8);
  assert.equal(find({ kinds: ['tool', 'agent'] }).length, 6);
  const limited = find({ kinds: REQUEST_KINDS, limit: 3 });
  const next = find({ kinds: REQUEST_KINDS, after: limited.at(-1) });
  assert.deepEqual([...limited, ...next], find({ kinds: REQUEST_KINDS }));
});

test('an id that begins as those of answers do is found as it is too', (t) => {
  const projection = open(t);
  projection.apply(entries([...pair('cmpl-mine'), ...pair('mine')]));
  const find = (requestId: string) =>
    projection.requests({ tenant: 't', limit: 9, requestId }).map(({ request_id: id }) => id);
  assert.deepEqual(find('cmpl-mine'), ['mine', 'cmpl-mine']);
  assert.deepEqual(find('mine'), ['mine']);
});

test('rows of runs and calls go with their first record', (t) => {
  const projection = open(t);
  projection.apply(entries(run('r1')));
  while (projection.prune(projection.nextIndex)) {}
  assert.deepEqual(projection.requests({ tenant: 't', limit: 9, kinds: REQUEST_KINDS }), []);
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
