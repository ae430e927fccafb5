// Which holes in a producer's numbers are written down: those that stay, once each.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { AuditEvent } from '#kit/audit/record.ts';
import { createLog } from '#kit/log.ts';
import { GapWatch } from '../../../services/audit/gap-watch.ts';
import { ChainFollower } from '../../../services/audit/ingest.ts';
import { Projection } from '../../../services/audit/projection.ts';
import { makeLog } from '../kit/audit/support/log.ts';

const log = createLog({ service: 't', level: 'silent' });
/** Of producer "a" alone, numbers from 1. */
const records = makeLog(30).filter((bytes) => bytes.includes('"producer":"a"'));

function setUp(t: TestContext) {
  const projection = Projection.open(':memory:');
  t.after(() => projection.close());
  const follower = new ChainFollower(projection);
  const events: AuditEvent[] = [];
  let refuses = false;
  const outbox = {
    producer: 'audit-1',
    append: async (event: AuditEvent) => {
      if (refuses) throw new Error('full');
      events.push(event);
      return { id: 'x', seq: 1 };
    },
  };
  const refuse = (now: boolean): void => {
    refuses = now;
  };
  let index = 0;
  /** Records by their numbers come in; answers what is odd about them. */
  const come = (...seqs: number[]) => {
    const taken = seqs.map((seq) => follower.take(records[seq - 1]!, { isAgain: false }));
    const fresh = taken.flatMap((one) => one.fresh);
    projection.apply(fresh.map((bytes) => ({ index: index++, bytes })));
    follower.committed();
    return taken.flatMap(({ alarms }) => alarms);
  };
  const open = (graceMs = 0): GapWatch => {
    const watch = new GapWatch({ projection, outbox, log, graceMs });
    t.after(() => watch.close());
    return watch;
  };
  /** As when the record has come to the ledger. */
  const stored = (event: AuditEvent): void => {
    const place = {
      v: 1,
      id: `own-${index}`,
      producer: 'audit-1',
      epoch: 1,
      seq: 1,
      prev: '',
      ts: '2026-01-01',
      mono_ns: '1',
    };
    projection.apply([{ index: index++, bytes: Buffer.from(JSON.stringify({ ...place, ...event })) }]);
  };
  return { projection, come, open, stored, events, refuse };
}

test('a hole that stays is recorded once, with its producer and numbers; each hole of its own', async (t) => {
  const { come, open, events, stored } = setUp(t);
  const watch = open();
  watch.saw(come(1, 2, 5, 6, 9));
  await watch.look();
  await watch.look();
  assert.deepEqual(
    events.map(({ tenant, action, target, outcome, reason, usage }) => [
      tenant,
      action,
      target,
      outcome,
      reason,
      usage,
    ]),
    [
      ['_system', 'audit.gap', 'a', 'unknown', 'RECORDS_MISSING', { first_seq: 3, last_seq: 4, missing: 2 }],
      ['_system', 'audit.gap', 'a', 'unknown', 'RECORDS_MISSING', { first_seq: 7, last_seq: 8, missing: 2 }],
    ],
  );
  for (const event of [...events]) stored(event);
  await open().look();
  assert.equal(events.length, 2, 'a service that starts again finds it in the log');
});

test('a hole that closes in time is none; one that closes in part is what is missing', async (t) => {
  const { come, open, events } = setUp(t);
  const watch = open();
  watch.saw(come(1, 4));
  watch.saw(come(2, 3));
  await watch.look();
  assert.equal(events.length, 0);
  watch.saw(come(8));
  come(6);
  await watch.look();
  assert.deepEqual(events[0]?.usage, { first_seq: 5, last_seq: 7, missing: 2 });
  const patient = open(60_000);
  patient.saw(come(10));
  await patient.look();
  assert.equal(events.length, 1, 'not before its time');
});

test('a hole from before a restart, and one that could not be written down, are not forgotten', async (t) => {
  const { come, open, events, refuse } = setUp(t);
  come(1, 3);
  const watch = open();
  refuse(true);
  await watch.look();
  assert.equal(events.length, 0);
  refuse(false);
  await watch.look();
  assert.deepEqual(events[0]?.usage, { first_seq: 2, last_seq: 2, missing: 1 });
});
