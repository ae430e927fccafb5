// Places in the log by time, where time does not grow: always the same as asking every record.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Projection } from '../../../services/audit/projection.ts';
import { TIME_SPANS_SQL } from '../../../services/audit/time-spans.ts';

const START_MS = Date.UTC(2026, 0, 1);
const HOUR_MS = 3_600_000;
const RECORDS = 6_000;

/** A small generator of numbers below `n` that is the same every time. */
function numbers(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state % n;
  };
}

/** Times that step ahead and back, with late records and one from the year 2999. */
function times(): string[] {
  const random = numbers(7);
  return Array.from({ length: RECORDS }, (_, i) => {
    const stepped = i > 2_000 && i < 2_400 ? 2_400 * HOUR_MS : i > 4_000 && i < 4_100 ? -HOUR_MS : 0;
    const late = random(20) === 0 ? -random(5 * HOUR_MS) : 0;
    return i === 1_500 ? '2999-01-01T00:00:00.000Z' : new Date(START_MS + i * 10_000 + stepped + late).toISOString();
  });
}

function setUp(t: TestContext): { projection: Projection; all: string[] } {
  const projection = Projection.open(':memory:');
  t.after(() => projection.close());
  const all = times();
  const place = {
    v: 1,
    producer: 'p',
    epoch: 1,
    prev: '',
    mono_ns: '1',
    tenant: 't',
    outcome: 'ok',
    action: 'audit.read',
  };
  const actor = { kind: 'operator', ref: 'x' };
  for (let from = 0; from < RECORDS; from += 500) {
    const entries = all.slice(from, from + 500).map((ts, i) => {
      const seq = from + i + 1;
      return { index: seq - 1, bytes: Buffer.from(JSON.stringify({ ...place, actor, id: `id-${seq}`, seq, ts })) };
    });
    projection.apply(entries);
  }
  return { projection, all };
}

test('the first since a time and the end until it are exact, also when records have gone', (t) => {
  const { projection, all } = setUp(t);
  const random = numbers(11);
  const check = (kept: number): void => {
    const asked = Array.from({ length: 60 }, () => new Date(START_MS + random(RECORDS * 10_000)).toISOString());
    for (const ts of [...asked, '1970-01-01T00:00:00.000Z', '2998-01-01T00:00:00.000Z', '3000-01-01T00:00:00.000Z']) {
      const first = all.findIndex((one, i) => i >= kept && one >= ts);
      assert.equal(projection.firstIndexSince(ts), first < 0 ? null : first, `since ${ts} of ${kept}`);
      const last = all.findLastIndex((one, i) => i >= kept && one < ts);
      assert.equal(projection.endIndexUntil(ts), last + 1, `until ${ts} of ${kept}`);
    }
  };
  check(0);
  while (projection.prune(3_333));
  check(3_333);
});

test('no statement reads more than a span', (t) => {
  const { projection } = setUp(t);
  const span = (name: 'firstSpan' | 'lastSpan'): string[] => projection.planOf(TIME_SPANS_SQL[name]);
  const record = (name: 'firstRecord' | 'lastRecord'): string[] => projection.planOf(TIME_SPANS_SQL[name]);
  for (const name of ['firstSpan', 'lastSpan'] as const)
    assert.deepEqual(span(name), ['SEARCH spans USING PRIMARY KEY (level=? AND no>? AND no<?)']);
  for (const name of ['firstRecord', 'lastRecord'] as const)
    assert.deepEqual(record(name), ['SEARCH records USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)']);
});
