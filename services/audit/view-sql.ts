// The tables of the view and the statements that ask them: none of them reads more than it answers, as far as an index helps,
// because all of them run on the event loop.
import { QUERY_ROWS_MAX } from './limits.ts';

/** Raised when the tables change: an older file is dropped and made again from the ledger. */
export const SCHEMA_VERSION = 9;

export const SCHEMA = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE producers (
  producer TEXT PRIMARY KEY, seq INTEGER NOT NULL, sha256 TEXT NOT NULL, whole_seq INTEGER NOT NULL,
  aged_seq INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE records (
  idx INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ts TEXT NOT NULL, producer TEXT NOT NULL, seq INTEGER NOT NULL,
  tenant TEXT NOT NULL, actor_kind TEXT NOT NULL, actor_ref TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT NOT NULL,
  code TEXT, reason TEXT, target TEXT, request_id TEXT, trace_id TEXT, sealed TEXT, usage TEXT);
CREATE INDEX records_by_producer ON records (producer, seq);
CREATE INDEX records_by_tenant ON records (tenant);
CREATE INDEX records_by_action ON records (tenant, action, ts);
CREATE TABLE requests (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, request_id TEXT NOT NULL, tenant TEXT NOT NULL, actor_kind TEXT NOT NULL,
  actor_ref TEXT NOT NULL, accepted_ts TEXT NOT NULL, finished_ts TEXT, target TEXT, outcome TEXT, code TEXT, reason TEXT,
  trace_id TEXT, sealed TEXT, usage TEXT, accepted_idx INTEGER NOT NULL, finished_idx INTEGER, prompt_ref TEXT, answer_ref TEXT,
  execution_id TEXT, tool_version TEXT, tool_sha TEXT, policy_sha TEXT, args_mac TEXT, approval TEXT, approval_ref TEXT,
  approval_reason TEXT) WITHOUT ROWID;
CREATE INDEX requests_by_request ON requests (tenant, kind, request_id, accepted_ts, accepted_idx);
CREATE INDEX requests_by_execution ON requests (tenant, kind, execution_id, accepted_ts, accepted_idx)
  WHERE execution_id IS NOT NULL;
CREATE INDEX requests_by_trace ON requests (tenant, kind, trace_id, accepted_ts, accepted_idx) WHERE trace_id IS NOT NULL;
CREATE INDEX requests_by_actor ON requests (tenant, kind, actor_ref, accepted_ts, accepted_idx);
CREATE INDEX requests_by_time ON requests (tenant, kind, accepted_ts, accepted_idx);
`;

/** What somebody may ask of the mesh: an answer, an agent run, a tool call. The last two have the request id of the run. */
export const REQUEST_KINDS = ['request', 'agent', 'tool'] as const;
export type RequestKind = (typeof REQUEST_KINDS)[number];

/** Which record begins a row, and which ends it. */
export const ROW_BEGINS: ReadonlyMap<string, RequestKind> = new Map([
  ['request.accepted', 'request'],
  ['agent.started', 'agent'],
  ['tool.requested', 'tool'],
]);
export const ROW_ENDS: ReadonlyMap<string, RequestKind> = new Map([
  ['request.finished', 'request'],
  ['agent.finished', 'agent'],
  ['tool.finished', 'tool'],
]);

export type RequestQuery = {
  tenant: string;
  /** Default: requests only. */
  kinds?: readonly RequestKind[] | undefined;
  actorRef?: string | undefined;
  /** Also with the prefix that it has in an answer over HTTP, or the execution id of a tool call. */
  requestId?: string | undefined;
  traceId?: string | undefined;
  /** RFC 3339, inclusive. */
  since?: string | undefined;
  /** RFC 3339, exclusive. */
  until?: string | undefined;
  /** The last row of the page before; rows come newest first. */
  after?: { accepted_ts: string; accepted_idx: number } | undefined;
  limit: number;
};

export type Value = string | number | null;

/**
 * Every statement that could read more than it answers names its way through the tables: without statistics SQLite takes an
 * index that holds one of the columns, and then reads all of a tenant or a producer. INDEXED BY fails when it cannot be used;
 * NOT INDEXED leaves the range of the primary key. The end of an index is the primary key, so records_by_tenant is in order.
 */
export const VIEW_SQL = {
  recordsOfTenant:
    'SELECT * FROM records INDEXED BY records_by_tenant WHERE tenant = ? AND idx >= ? ORDER BY idx LIMIT ?',
  backlog: `SELECT min(idx) AS idx FROM
    (SELECT idx FROM records INDEXED BY records_by_tenant WHERE tenant = ? ORDER BY idx DESC LIMIT ?)`,
  /** What no checkpoint covers yet is little; the records of a producer are many. */
  lowestSeqFrom: 'SELECT min(seq) AS seq FROM records NOT INDEXED WHERE producer = ? AND idx >= ?',
  placeOf: 'SELECT min(idx) AS idx FROM records INDEXED BY records_by_producer WHERE producer = ? AND seq = ?',
  /** A row per producer with a hole; the producers are few. */
  gaps: `SELECT producer, whole_seq + 1 AS first, (SELECT min(seq) FROM records INDEXED BY records_by_producer
    WHERE records.producer = producers.producer AND records.seq > producers.whole_seq) AS next
    FROM producers WHERE whole_seq < seq`,
  countBetween: `SELECT count(DISTINCT seq) AS count FROM records INDEXED BY records_by_producer
    WHERE producer = ? AND seq BETWEEN ? AND ?`,
  gapRecords: `SELECT usage FROM records INDEXED BY records_by_action
    WHERE tenant = ? AND action = 'audit.gap' AND target = ?`,
  prunable: `SELECT idx, id, action, producer, seq FROM records NOT INDEXED
    WHERE idx < ? AND tenant <> '' ORDER BY idx LIMIT ?`,
  dropBlank: `DELETE FROM records INDEXED BY records_by_tenant
    WHERE tenant = '' AND seq <> (SELECT whole_seq FROM producers p WHERE p.producer = records.producer)`,
  /** By the record that it ends, else by the oldest open row of that id: what a journal knows of a call names no record. */
  finish: `UPDATE requests SET finished_ts = ?, outcome = ?, code = ?, reason = ?,
    usage = json_patch(coalesce(usage, '{}'), coalesce(?, '{}')), finished_idx = ?, answer_ref = ?
    WHERE tenant = ? AND kind = ? AND finished_idx IS NULL AND id = coalesce(?,
      (SELECT id FROM requests INDEXED BY requests_by_execution
        WHERE tenant = ? AND kind = ? AND execution_id = ? AND finished_idx IS NULL ORDER BY accepted_idx LIMIT 1),
      (SELECT id FROM requests INDEXED BY requests_by_request
        WHERE tenant = ? AND kind = ? AND request_id = ? AND finished_idx IS NULL ORDER BY accepted_idx LIMIT 1))`,
  approve:
    "UPDATE requests SET approval = ?, approval_ref = ?, approval_reason = ? WHERE id = ? AND tenant = ? AND kind = 'tool'",
} as const;

/** By what the rows of one kind are found: the index of what narrows most, in whose order they come. */
type Way = { kind: RequestKind; index: string; column?: string; value?: string };

const ANSWER_ID = /^(?:chat)?cmpl-(.+)$/;

function waysOf({ kinds = ['request'], actorRef, requestId, traceId }: RequestQuery): Way[] {
  return kinds.flatMap((kind): Way[] => {
    if (requestId !== undefined) {
      const inAnswer = ANSWER_ID.exec(requestId)?.[1];
      const ids = [requestId, ...(inAnswer === undefined ? [] : [inAnswer])];
      const ways = ids.map((value) => ({ kind, index: 'requests_by_request', column: 'request_id', value }));
      const call = { kind, index: 'requests_by_execution', column: 'execution_id', value: requestId };
      return kind === 'tool' ? [...ways, call] : ways;
    }
    if (traceId !== undefined) return [{ kind, index: 'requests_by_trace', column: 'trace_id', value: traceId }];
    if (actorRef !== undefined) return [{ kind, index: 'requests_by_actor', column: 'actor_ref', value: actorRef }];
    return [{ kind, index: 'requests_by_time' }];
  });
}

/** The statement of a query and its values: ways that are in order each, merged. */
export function requestsSql(query: RequestQuery): { sql: string; values: Value[] } {
  const values: Value[] = [];
  const parts = waysOf(query).map(({ kind, index, column, value }) => {
    const where: string[] = [];
    const add = (condition: string, ...more: (Value | undefined)[]): void => {
      if (more[0] === undefined) return;
      where.push(condition);
      values.push(...(more as Value[]));
    };
    add('tenant = ?', query.tenant);
    add('kind = ?', kind);
    if (column !== undefined) add(`${column} = ?`, value);
    if (column !== 'actor_ref') add('actor_ref = ?', query.actorRef);
    if (column !== 'trace_id') add('trace_id = ?', query.traceId);
    add('accepted_ts >= ?', query.since);
    if (!query.after) add('accepted_ts < ?', query.until); // a page before was older already
    add('(accepted_ts, accepted_idx) < (?, ?)', query.after?.accepted_ts, query.after?.accepted_idx);
    return `SELECT * FROM requests INDEXED BY ${index} WHERE ${where.join(' AND ')}`;
  });
  const sql = `${parts.join(' UNION ALL ')} ORDER BY accepted_ts DESC, accepted_idx DESC LIMIT ?`;
  return { sql, values: [...values, Math.min(query.limit, QUERY_ROWS_MAX)] };
}
