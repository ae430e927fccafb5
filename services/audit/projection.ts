// The queryable view of the ledger: SQLite tables made from the records alone, dropped and made again at will. Two nouns:
// records (one row each) and requests (one row per request, agent run and tool call, closed by its finished record).
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { DATABASE_BUSY_MS } from '#kit/audit/limits.ts';
import { type AuditRecord, SYSTEM_TENANT, sha256Hex } from '#kit/audit/record.ts';
import type { LedgerEntry } from './ledger.ts';
import { PRUNE_ROWS, VIEW_CACHE_KIB } from './limits.ts';
import { TIME_SPANS_SCHEMA, TimeSpans } from './time-spans.ts';
import type { RecordRow, RequestRow } from './view-rows.ts';
import {
  type RequestQuery,
  ROW_BEGINS,
  ROW_ENDS,
  requestsSql,
  SCHEMA,
  SCHEMA_VERSION,
  type Value,
  VIEW_SQL,
} from './view-sql.ts';

export type { RecordRow, RequestRow } from './view-rows.ts';
export type { RequestQuery } from './view-sql.ts';

/** A message of one stream: a stream that was made anew counts from 1 again. */
export type StreamPosition = { createdMs: number; seq: number };

/** A producer's chain as far as the ledger has it. */
export type ChainHead = { seq: number; sha256: string };

/** A producer's chain while a batch is applied. last: the bytes of record `highest` when it is of this batch. */
type ChainEnd = { highest: number; last: Buffer | null; whole: number };

/** Numbers of a producer of which at least one did not come. */
export type Gap = { producer: string; firstSeq: number; lastSeq: number };

export class Projection {
  readonly #database: DatabaseSync;
  readonly #findRecord: StatementSync;
  readonly #insertRecord: StatementSync;
  readonly #accept: StatementSync;
  readonly #finish: StatementSync;
  readonly #approve: StatementSync;
  readonly #setProducer: StatementSync;
  readonly #setMeta: StatementSync;
  readonly #wholeSeq: StatementSync;
  readonly #setWholeSeq: StatementSync;
  readonly #findPlace: StatementSync;
  readonly #spans: TimeSpans;

  private constructor(database: DatabaseSync) {
    this.#database = database;
    this.#findRecord = database.prepare('SELECT 1 FROM records WHERE id = ?');
    this.#insertRecord = database.prepare(
      'INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING',
    );
    this.#accept = database.prepare(
      `INSERT INTO requests (id, kind, request_id, tenant, actor_kind, actor_ref, accepted_ts, target, trace_id, sealed,
         accepted_idx, prompt_ref, execution_id, tool_version, tool_sha, policy_sha, args_mac, usage)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
    );
    this.#finish = database.prepare(VIEW_SQL.finish);
    this.#approve = database.prepare(VIEW_SQL.approve);
    this.#setProducer = database.prepare(
      `INSERT INTO producers (producer, seq, sha256, whole_seq) VALUES (?, ?, ?, 0)
       ON CONFLICT (producer) DO UPDATE SET seq = excluded.seq, sha256 = excluded.sha256 WHERE excluded.seq > seq`,
    );
    this.#setMeta = database.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)');
    this.#wholeSeq = database.prepare('SELECT whole_seq FROM producers WHERE producer = ?');
    this.#setWholeSeq = database.prepare('UPDATE producers SET whole_seq = ? WHERE producer = ?');
    this.#findPlace = database.prepare(VIEW_SQL.placeOf);
    this.#spans = new TimeSpans(database);
  }

  /** Opens the file, or a new one; a file of another schema is made anew. `path` ':memory:' keeps nothing. */
  static open(path: string): Projection {
    const database = new DatabaseSync(path, { timeout: DATABASE_BUSY_MS });
    // What is lost with the power is made again from the ledger.
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -${VIEW_CACHE_KIB};`);
    const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number };
    if (version !== SCHEMA_VERSION) {
      const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all() as {
        name: string;
      }[];
      for (const { name } of tables) database.exec(`DROP TABLE "${name}"`);
      database.exec(`${SCHEMA} ${TIME_SPANS_SCHEMA} PRAGMA user_version = ${SCHEMA_VERSION};`);
    }
    return new Projection(database);
  }

  /** The index of the first record that is not in the view. */
  get nextIndex(): number {
    const row = this.#database.prepare("SELECT value FROM meta WHERE key = 'next_index'").get();
    return Number((row as { value: number } | undefined)?.value ?? 0);
  }

  chainHead(producer: string): ChainHead | null {
    const row = this.#database.prepare('SELECT seq, sha256 FROM producers WHERE producer = ?').get(producer);
    return (row as ChainHead | undefined) ?? null;
  }

  /**
   * The producer's highest record such that it and all before it lie below `size`, or null: the first is not there. A record
   * that came late fills its gap.
   */
  coverage(producer: string, size: number): { seq: number; index: number } | null {
    const above = this.#database.prepare(VIEW_SQL.lowestSeqFrom).get(producer, size) as { seq: number | null };
    const seq = Math.min(this.#wholeUpTo(producer), (above.seq ?? Number.POSITIVE_INFINITY) - 1);
    const index = this.#placeOf(producer, seq);
    return index === null ? null : { seq, index };
  }

  #wholeUpTo(producer: string): number {
    return Number((this.#wholeSeq.get(producer) as { whole_seq: number } | undefined)?.whole_seq ?? 0);
  }

  /** Of two records with one number the first that came. */
  #placeOf(producer: string, seq: number): number | null {
    return (this.#findPlace.get(producer, seq) as { idx: number | null }).idx;
  }

  /** Moves on over the records that follow without a gap. Only where records came out of order does it have to look for them. */
  #follow(chains: Map<string, ChainEnd>, record: AuditRecord, bytes: Buffer): void {
    const { producer, seq } = record;
    let chain = chains.get(producer);
    if (!chain) {
      const highest = this.chainHead(producer)?.seq ?? 0;
      chain = { highest, last: null, whole: this.#wholeUpTo(producer) };
      chains.set(producer, chain);
    }
    if (seq === chain.whole + 1) {
      chain.whole = seq;
      while (chain.whole < chain.highest && this.#placeOf(producer, chain.whole + 1) !== null) chain.whole += 1;
    }
    if (seq <= chain.highest) return;
    chain.highest = seq;
    chain.last = bytes;
  }

  #storeChains(chains: Map<string, ChainEnd>): void {
    for (const [producer, { highest, last, whole }] of chains) {
      if (last) this.#setProducer.run(producer, highest, sha256Hex(last));
      this.#setWholeSeq.run(whole, producer);
    }
  }

  /** The first hole of each producer that has one, those of the last retention. */
  gaps(): Gap[] {
    const rows = this.#database.prepare(VIEW_SQL.gaps).all() as {
      producer: string;
      first: number;
      next: number | null;
    }[];
    return rows.flatMap(({ producer, first, next }) =>
      next === null ? [] : [{ producer, firstSeq: first, lastSeq: next - 1 }],
    );
  }

  /** How many records of a gap are not there. */
  missingOf({ producer, firstSeq, lastSeq }: Gap): number {
    const row = this.#database.prepare(VIEW_SQL.countBetween).get(producer, firstSeq, lastSeq) as { count: number };
    return Math.max(0, lastSeq - firstSeq + 1 - row.count);
  }

  /** Whether a record of this gap is in the log. */
  hasGapRecord({ producer, firstSeq }: Gap): boolean {
    const rows = this.#database.prepare(VIEW_SQL.gapRecords).all(SYSTEM_TENANT, producer) as { usage: string | null }[];
    return rows.some(({ usage }) => (JSON.parse(usage ?? '{}') as { first_seq?: number }).first_seq === firstSeq);
  }

  hasRecord(id: string): boolean {
    return this.#findRecord.get(id) !== undefined;
  }

  /** The last message of the stream whose records are in the view; null when that is not known. */
  get streamPosition(): StreamPosition | null {
    const rows = this.#database
      .prepare("SELECT key, value FROM meta WHERE key IN ('stream_created_ms', 'stream_seq')")
      .all();
    const values = new Map((rows as { key: string; value: number }[]).map(({ key, value }) => [key, value]));
    const [createdMs, seq] = [values.get('stream_created_ms'), values.get('stream_seq')];
    return createdMs === undefined || seq === undefined ? null : { createdMs, seq };
  }

  /** Adds records in the order of the log, all or none. Those below nextIndex are passed over. */
  apply(entries: readonly LedgerEntry[], position?: StreamPosition): void {
    this.#inTransaction(() => {
      let next = this.nextIndex;
      const chains = new Map<string, ChainEnd>();
      const times: { index: number; ts: string }[] = [];
      for (const { index, bytes } of entries) {
        if (index < next) continue;
        const ts = this.#applyOne(index, bytes, chains);
        if (ts !== null) times.push({ index, ts });
        next = index + 1;
      }
      this.#spans.add(times);
      this.#storeChains(chains);
      this.#setMeta.run('next_index', next);
      if (position) {
        this.#setMeta.run('stream_created_ms', position.createdMs);
        this.#setMeta.run('stream_seq', position.seq);
      }
    });
  }

  /** Answers the record's time, or null for what is none. */
  #applyOne(index: number, bytes: Buffer, chains: Map<string, ChainEnd>): string | null {
    const record = readRecord(bytes);
    if (!record) return null; // kept in the ledger at its place; nothing to show
    const { actor } = record;
    const usage = record.usage ? JSON.stringify(record.usage) : null;
    this.#insertRecord.run(
      ...([
        index,
        record.id,
        record.ts,
        record.producer,
        record.seq,
        record.tenant,
        actor.kind,
        actor.ref,
      ] satisfies Value[]),
      ...[record.action, record.outcome, text(record.code), text(record.reason), text(record.target)],
      ...[text(record.request_id), text(record.trace_id), text(record.sealed), usage],
    );
    this.#follow(chains, record, bytes);
    this.#applyToRequests(index, record, usage);
    return record.ts;
  }

  /** What the record says of a request, an agent run or a tool call. */
  #applyToRequests(index: number, record: AuditRecord, usage: string | null): void {
    const { id, action, tenant, actor, ts, request_id: request = '' } = record;
    const begins = ROW_BEGINS.get(action);
    const ends = ROW_ENDS.get(action);
    if (record.request_id === undefined && !action.startsWith('tool.')) return; // a call need not be of a run
    if (begins) {
      const facts = [text(record.target), text(record.trace_id), text(record.sealed), index, text(record.content_ref)];
      const { execution_id, tool_version, tool_sha, policy_sha, args_mac } = record;
      const ofTool = [execution_id, tool_version, tool_sha, policy_sha, args_mac].map(text);
      this.#accept.run(id, begins, request, tenant, actor.kind, actor.ref, ts, ...facts, ...ofTool, usage);
    } else if (ends) {
      const { outcome, parent_id, execution_id } = record;
      const byRequest = execution_id === undefined ? request : null;
      const found = [text(parent_id), tenant, ends, text(execution_id), tenant, ends, byRequest];
      const how = [ts, outcome, text(record.code), text(record.reason), usage, index, text(record.content_ref)];
      this.#finish.run(...how, tenant, ends, ...found);
    } else if (action === 'tool.approved' || action === 'tool.denied') {
      const said = action === 'tool.approved' ? 'approved' : 'denied';
      this.#approve.run(said, actor.ref, text(record.reason), text(record.parent_id), tenant);
    }
  }

  /** Requests, and what else was asked for, newest first, at most `limit` (and QUERY_ROWS_MAX). */
  requests(query: RequestQuery): RequestRow[] {
    const { sql, values } = requestsSql(query);
    return this.#database.prepare(sql).all(...values) as unknown as RequestRow[];
  }

  /** Records of a tenant in the order of the log, from index `from` on. */
  records({ tenant, from, limit }: { tenant: string; from: number; limit: number }): RecordRow[] {
    return this.#database.prepare(VIEW_SQL.recordsOfTenant).all(tenant, from, limit) as unknown as RecordRow[];
  }

  /** The index from which on there are at most `count` records of a tenant. */
  indexBefore(tenant: string, count: number): number {
    if (count === 0) return this.nextIndex;
    const row = this.#database.prepare(VIEW_SQL.backlog).get(tenant, count) as { idx: number | null };
    return row.idx ?? this.nextIndex;
  }

  /** The first record of this time or later, or null. */
  firstIndexSince(ts: string): number | null {
    return this.#spans.firstSince(ts);
  }

  /** The index behind the last record that is older than this time, or 0. */
  endIndexUntil(ts: string): number {
    return (this.#spans.lastBefore(ts) ?? -1) + 1;
  }

  /** Up to which number a producer's rows were taken out: a record of such a number that comes again is no news. */
  agedSeq(producer: string): number {
    const row = this.#database.prepare('SELECT aged_seq FROM producers WHERE producer = ?').get(producer);
    return (row as { aged_seq: number } | undefined)?.aged_seq ?? 0;
  }

  /** For a view that is made anew from a ledger whose first records have aged: what is known of them. */
  startAt(index: number, heads: ReadonlyMap<string, ChainHead>): void {
    const insert = this.#database.prepare('INSERT OR REPLACE INTO producers VALUES (?, ?, ?, ?, ?)');
    this.#inTransaction(() => {
      for (const [producer, { seq, sha256 }] of heads) insert.run(producer, seq, sha256, seq, seq);
      this.#setMeta.run('next_index', index);
    });
  }

  /**
   * Takes out rows of records below `index`, some at a time; answers whether there may be more. The record up to which a
   * producer is whole keeps its place and number, and nothing else.
   */
  prune(index: number): boolean {
    const find = this.#database.prepare(VIEW_SQL.prunable);
    const rows = find.all(index, PRUNE_ROWS) as {
      idx: number;
      id: string;
      action: string;
      producer: string;
      seq: number;
    }[];
    const dropRequest = this.#database.prepare('DELETE FROM requests WHERE id = ?');
    const dropRecord = this.#database.prepare('DELETE FROM records WHERE idx = ?');
    const blank = this.#database.prepare(
      `UPDATE records SET tenant = '', actor_kind = '', actor_ref = '', action = '', outcome = '', code = NULL, reason = NULL,
       target = NULL, request_id = NULL, trace_id = NULL, sealed = NULL, usage = NULL WHERE idx = ?`,
    );
    const age = this.#database.prepare('UPDATE producers SET aged_seq = max(aged_seq, ?) WHERE producer = ?');
    this.#inTransaction(() => {
      this.#database.exec(VIEW_SQL.dropBlank);
      for (const { idx, id, action, producer, seq } of rows) {
        if (ROW_BEGINS.has(action)) dropRequest.run(id);
        if (this.#wholeUpTo(producer) === seq) blank.run(idx);
        else dropRecord.run(idx);
        age.run(seq, producer);
      }
      this.#spans.drop(index);
    });
    return rows.length === PRUNE_ROWS;
  }

  #inTransaction(work: () => void): void {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#database.exec('COMMIT');
    } catch (error) {
      this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  /** The steps by which SQLite answers a statement. */
  planOf(sql: string): string[] {
    const statement = this.#database.prepare(`EXPLAIN QUERY PLAN ${sql}`);
    const unbound = Array.from({ length: sql.split('?').length - 1 }, () => null);
    return (statement.all(...unbound) as { detail: string }[]).map(({ detail }) => detail);
  }

  /** A digest over all rows: equal after dropping and applying everything again. */
  digest(): string {
    const parts: string[] = [];
    for (const table of ['records', 'requests', 'producers']) {
      for (const row of this.#database.prepare(`SELECT * FROM ${table} ORDER BY 1, 2`).iterate())
        parts.push(JSON.stringify(row));
    }
    return sha256Hex(Buffer.from(parts.join('\n')));
  }

  close(): void {
    this.#database.close();
  }
}

const text = (value: string | undefined): string | null => value ?? null;

/** Null: these bytes are no record. */
export function readRecord(bytes: Buffer): AuditRecord | null {
  try {
    const record = JSON.parse(bytes.toString('utf8')) as Partial<AuditRecord> | null;
    const { id, ts, producer, seq, tenant, actor, action, outcome } = record ?? {};
    const texts = [id, ts, producer, tenant, actor?.kind, actor?.ref, action, outcome];
    return texts.every((text) => typeof text === 'string') && Number.isSafeInteger(seq)
      ? (record as AuditRecord)
      : null;
  } catch {
    return null;
  }
}
