// Finds places in the log by time. Records stand in the order in which they came and bear their producers' times, which need not
// grow: an outbox may be late, a clock may step. So nothing is assumed of their order: each span of records knows its earliest and
// latest time, and so does each span of spans, and a search goes down from these: exact, and in steps that hardly grow with the log.
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { TIME_SPAN } from './limits.ts';

/** Levels of spans: the upper one has a row per TIME_SPAN * TIME_SPAN records. */
const TOP = 1;
/** Records of a span. */
const recordsOf = (level: number): number => TIME_SPAN ** (level + 1);

export const TIME_SPANS_SCHEMA = `
CREATE TABLE spans (level INTEGER NOT NULL, no INTEGER NOT NULL, min_ts TEXT NOT NULL, max_ts TEXT NOT NULL,
  PRIMARY KEY (level, no)) WITHOUT ROWID;
`;

/** Bounds: [first, end). Records that were taken out have no tenant. */
export const TIME_SPANS_SQL = {
  add: `INSERT INTO spans VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET min_ts = min(min_ts, excluded.min_ts), max_ts = max(max_ts, excluded.max_ts)`,
  firstSpan: 'SELECT no FROM spans WHERE level = ? AND no >= ? AND no < ? AND max_ts >= ? ORDER BY no LIMIT 1',
  lastSpan: 'SELECT no FROM spans WHERE level = ? AND no >= ? AND no < ? AND min_ts < ? ORDER BY no DESC LIMIT 1',
  firstRecord: `SELECT idx AS no FROM records NOT INDEXED
    WHERE idx >= ? AND idx < ? AND ts >= ? AND tenant <> '' ORDER BY idx LIMIT 1`,
  lastRecord: `SELECT idx AS no FROM records NOT INDEXED
    WHERE idx >= ? AND idx < ? AND ts < ? AND tenant <> '' ORDER BY idx DESC LIMIT 1`,
  drop: 'DELETE FROM spans WHERE level = ? AND no < ?',
} as const;

type Range = { first: number; end: number };
type Times = { min: string; max: string };

export class TimeSpans {
  readonly #statements: Record<keyof typeof TIME_SPANS_SQL, StatementSync>;

  constructor(database: DatabaseSync) {
    const prepared = Object.entries(TIME_SPANS_SQL).map(([name, sql]) => [name, database.prepare(sql)]);
    this.#statements = Object.fromEntries(prepared) as Record<keyof typeof TIME_SPANS_SQL, StatementSync>;
  }

  add(records: readonly { index: number; ts: string }[]): void {
    for (let level = 0; level <= TOP; level += 1) {
      const spans = new Map<number, Times>();
      for (const { index, ts } of records) {
        const no = Math.floor(index / recordsOf(level));
        const known = spans.get(no);
        if (!known) spans.set(no, { min: ts, max: ts });
        else if (ts < known.min) known.min = ts;
        else if (ts > known.max) known.max = ts;
      }
      for (const [no, { min, max }] of spans) this.#statements.add.run(level, no, min, max);
    }
  }

  /** The first record whose time is `ts` or later, or null. */
  firstSince(ts: string): number | null {
    return this.#find(TOP, { first: 0, end: Number.MAX_SAFE_INTEGER }, ts, 'first');
  }

  /** The last record whose time is before `ts`, or null. */
  lastBefore(ts: string): number | null {
    return this.#find(TOP, { first: 0, end: Number.MAX_SAFE_INTEGER }, ts, 'last');
  }

  /** Level -1: the records themselves. A span may know times of records that have gone: then the next one is asked. */
  #find(level: number, { first, end }: Range, ts: string, side: 'first' | 'last'): number | null {
    const { firstSpan, lastSpan, firstRecord, lastRecord } = this.#statements;
    for (const left = { first, end }; left.first < left.end; ) {
      const found =
        level < 0
          ? (side === 'first' ? firstRecord : lastRecord).get(left.first, left.end, ts)
          : (side === 'first' ? firstSpan : lastSpan).get(level, left.first, left.end, ts);
      if (!found) return null;
      const { no } = found as { no: number };
      if (level < 0) return no;
      const below = this.#find(level - 1, childrenOf(level, no), ts, side);
      if (below !== null) return below;
      if (side === 'first') left.first = no + 1;
      else left.end = no;
    }
    return null;
  }

  /** Forgets the spans of which no record from `index` on is a part. */
  drop(index: number): void {
    for (let level = 0; level <= TOP; level += 1)
      this.#statements.drop.run(level, Math.floor(index / recordsOf(level)));
  }
}

function childrenOf(level: number, no: number): Range {
  const count = level === 0 ? recordsOf(0) : TIME_SPAN;
  return { first: no * count, end: (no + 1) * count };
}
