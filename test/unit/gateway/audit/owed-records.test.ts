import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditEvent } from '#kit/audit/record.ts';
import { OwedRecords } from '../../../../services/gateway/audit/owed-records.ts';

const event = (target: string): AuditEvent => ({
  tenant: 't',
  actor: { kind: 'user', ref: 'p' },
  action: 'request.finished',
  outcome: 'ok',
  target,
});

test('what an outbox refuses is tried until it is taken, and told once', async (t) => {
  let refuses = true;
  const taken: string[] = [];
  const written: string[] = [];
  let attempts = 0;
  const owed = new OwedRecords({
    async append({ target = '' }) {
      attempts += 1;
      if (refuses) throw new Error('full');
      taken.push(target);
      return { id: target, seq: taken.length };
    },
    onDropped: () => assert.fail('nothing is dropped'),
    retryMs: 5,
  });
  t.after(() => owed.close());
  for (const name of ['a', 'b']) await owed.write(event(name), () => void written.push(name));
  assert.deepEqual([owed.size, written], [2, []]);
  while (attempts < 8) await sleep(5);
  assert.equal(owed.size, 2);
  refuses = false;
  while (owed.size > 0) await sleep(5);
  assert.deepEqual(taken.toSorted(), ['a', 'b']);
  assert.deepEqual(written.toSorted(), ['a', 'b']);
  await owed.write(event('c'), () => void written.push('c'));
  assert.deepEqual([taken.at(-1), written.at(-1), owed.size], ['c', 'c', 0]);
});

test('closed, it tries no more', async () => {
  let attempts = 0;
  const owed = new OwedRecords({
    append: () => {
      attempts += 1;
      return Promise.reject(new Error('full'));
    },
    onDropped: () => {},
    retryMs: 1,
  });
  await owed.write(event('a'));
  owed.close();
  const before = attempts;
  await owed.write(event('b'));
  await sleep(20);
  assert.equal(attempts, before + 1);
});

test('a record that is not known yet is owed until it is written', async () => {
  const { promise, resolve } = Promise.withResolvers<AuditEvent>();
  const taken: AuditEvent[] = [];
  const owed = new OwedRecords({
    append: async (one) => {
      taken.push(one);
      return { id: '1', seq: 1 };
    },
    onDropped: () => assert.fail('nothing is dropped'),
  });
  let isWritten = false;
  const written = owed.writeLater(promise, () => {
    isWritten = true;
  });
  assert.deepEqual([owed.size, taken.length], [1, 0]);
  resolve(event('late'));
  await written;
  assert.deepEqual([owed.size, taken.length, isWritten], [0, 1, true]);
});
