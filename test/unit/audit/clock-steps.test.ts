// A wall clock that jumps: what ages, in which order records stand, and what a query by time answers.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NO_RECORD_SHA256, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import { createLog } from '#kit/log.ts';
import { Ledger } from '../../../services/audit/ledger.ts';
import { RETENTION_LOOK_MS } from '../../../services/audit/limits.ts';
import { Projection } from '../../../services/audit/projection.ts';
import { ageOut } from '../../../services/audit/retention.ts';
import { RetentionClock } from '../../../services/audit/retention-clock.ts';
import { LedgerWriter } from '../../../services/audit/writer.ts';

const log = createLog({ service: 't', level: 'silent' });
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const START_MS = Date.UTC(2026, 0, 1);

/** A ledger, its view and what lets records go, all by one clock that the test moves. */
async function setUp(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const time = { wallMs: START_MS, monotonicMs: 0 };
  const now = (): number => time.wallMs;
  const ledger = await Ledger.open({ dir, now });
  const projection = Projection.open(join(dir, 'view.sqlite'));
  t.after(async () => {
    projection.close();
    await ledger.close();
    await rm(dir, { recursive: true, force: true });
  });
  const writer = await LedgerWriter.open(ledger, projection, log);
  const files = await openSegmentFiles(join(dir, 'state'));
  const openClock = (newestTs: string | null = null) =>
    RetentionClock.open({ files, log, newestTs, now, monotonicMs: () => time.monotonicMs });
  let clock = await openClock();
  let [seq, prev] = [0, NO_RECORD_SHA256];
  /** One request, by the clock as it is. */
  async function request(): Promise<void> {
    seq += 1;
    const ts = new Date(time.wallMs).toISOString();
    const place = { producer: 'a', epoch: 1, seq, prev };
    const actor = { kind: 'user', ref: 'ada' } as const;
    const what = { tenant: 't', actor, action: 'request.accepted', outcome: 'ok', request_id: `r${seq}` } as const;
    const bytes = recordBytes({ v: 1, id: `a-${seq}`, ts, mono_ns: `${time.monotonicMs}`, ...place, ...what });
    prev = sha256Hex(bytes);
    await writer.write(1, [{ streamSeq: seq, payload: bytes }]);
  }
  async function age(): Promise<number> {
    const counts = await clock.look();
    return ageOut(ledger, projection, { before: new Date(counts.getTime() - 90 * DAY_MS), now: counts });
  }
  /** Runs for so long, with a request and a look each hour; answers how many segments went. */
  async function run(hours: number): Promise<number> {
    let gone = 0;
    for (let i = 0; i < hours; i += 1) {
      await request();
      time.wallMs += RETENTION_LOOK_MS;
      time.monotonicMs += RETENTION_LOOK_MS;
      gone += await age();
    }
    return gone;
  }
  const ids = (over: { since?: string; until?: string } = {}): string[] =>
    projection.requests({ tenant: 't', limit: 1_000, ...over }).map(({ request_id }) => request_id);
  const restart = async (newestTs: string | null = null): Promise<void> => {
    clock = await openClock(newestTs);
  };
  return { time, ledger, projection, run, age, ids, restart, ahead: () => clock.aheadMs };
}

const at = (ms: number): string => new Date(ms).toISOString();

test('100 days ahead and back, an hour back and forth: nothing goes, the order of the log stays', async (t) => {
  const { time, ledger, projection, run, ids, ahead } = await setUp(t);
  let gone = await run(30);
  time.wallMs += 100 * DAY_MS;
  gone += await run(10);
  assert.ok(ahead() > 99 * DAY_MS);
  time.wallMs -= 100 * DAY_MS;
  gone += await run(10);
  assert.equal(ahead(), 0);
  time.wallMs -= HOUR_MS;
  gone += await run(5);
  time.wallMs += HOUR_MS;
  gone += await run(5);
  assert.deepEqual([gone, ledger.firstIndex, ledger.size], [0, 0, 60]);
  const rows = projection.records({ tenant: 't', from: 0, limit: 100 });
  assert.deepEqual(
    rows.map(({ request_id }) => request_id),
    Array.from({ length: 60 }, (_, i) => `r${i + 1}`),
  );
  const real = ids({ since: at(START_MS), until: at(START_MS + 60 * HOUR_MS) });
  assert.equal(real.length, 50, 'a time has what was written by it');
  assert.ok(!real.includes('r31') && real.includes('r30') && real.includes('r41'));
  assert.deepEqual(
    ids({ since: at(START_MS + 99 * DAY_MS) }),
    Array.from({ length: 10 }, (_, i) => `r${40 - i}`),
  );
});

test('what was written by a clock that was ahead goes with the records around it', async (t) => {
  const { time, ledger, run, ids } = await setUp(t);
  await run(5);
  time.wallMs += 400 * DAY_MS;
  await run(5);
  time.wallMs -= 400 * DAY_MS;
  await run(30);
  for (let day = 0; day < 92; day += 1)
    await run(2 + 22 * Number(day % 30 === 0)).then(() => (time.wallMs += 22 * HOUR_MS));
  assert.ok(ledger.firstIndex >= 10, `${ledger.firstIndex}`);
  assert.ok(!ids().includes('r7'));
});

test('a clock that stands by its jump for a day of running is believed, also over restarts, and not before', async (t) => {
  const { time, ledger, run, restart, ahead } = await setUp(t);
  await run(50);
  time.wallMs += 100 * DAY_MS;
  for (let i = 0; i < 4; i += 1) {
    await restart(at(time.wallMs)); // the log has records of the new time by then
    assert.equal(await run(5), 0);
  }
  assert.equal(ledger.firstIndex, 0);
  assert.ok(ahead() > 99 * DAY_MS);
  await run(20);
  assert.equal(ahead(), 0);
  assert.ok(ledger.firstIndex > 0, 'what is 100 days old is gone');
});

test('a service that was away for less than a day is not surprised; without its file the log says the time', async (t) => {
  const { time, run, restart, age, ahead } = await setUp(t);
  await run(3);
  time.wallMs += 20 * HOUR_MS;
  await restart();
  await age();
  assert.equal(ahead(), 0);
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const files = await openSegmentFiles(dir);
  const newestTs = at(START_MS);
  const fresh = await RetentionClock.open({ files, log, newestTs, now: () => START_MS + 200 * DAY_MS });
  const counts = await fresh.look();
  assert.ok(counts.getTime() - START_MS < HOUR_MS, 'the lesser of the two');
  const early = await RetentionClock.open({ files, log, newestTs, now: () => START_MS - DAY_MS });
  assert.equal((await early.look()).getTime(), START_MS - DAY_MS, 'a clock that is back is believed: less goes');
});
