import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AUDIT_OUTBOX_HARD_BYTES } from '#kit/audit/limits.ts';
import { type WatchedOutbox, watchOutbox } from '#kit/audit/outbox-metrics.ts';
import { createMetrics } from '#kit/metrics.ts';

test('an outbox shows what waits, for how long, and the one state that holds', async () => {
  const metrics = createMetrics('gateway');
  let now: WatchedOutbox = { outbox: { bytes: 10, status: 'open', durableSeq: 3 }, publisher: null };
  watchOutbox(metrics, () => now);
  const first = await metrics.render();
  assert.match(first, new RegExp(`quern_audit_outbox_max_bytes\\{service="gateway"\\} ${AUDIT_OUTBOX_HARD_BYTES}\n`));
  assert.match(first, /quern_audit_outbox_state\{state="open",[^}]*\} 1\n/);
  assert.match(first, /quern_audit_publisher_state\{state="waiting",[^}]*\} 1\n/);
  const stats = { state: 'stopped', reason: 'x', publishedSeq: 1, unsentRecords: 2, oldestUnsentMs: 1_500 } as const;
  now = { outbox: { bytes: 20, status: 'full', durableSeq: 3 }, publisher: { stats }, hardBytes: 20 };
  const second = await metrics.render();
  for (const line of [
    'quern_audit_outbox_bytes{service="gateway"} 20',
    'quern_audit_outbox_max_bytes{service="gateway"} 20',
    'quern_audit_outbox_records{service="gateway"} 3',
    'quern_audit_outbox_unsent_records{service="gateway"} 2',
    'quern_audit_outbox_oldest_seconds{service="gateway"} 1.5',
    'quern_audit_outbox_state{state="open",service="gateway"} 0',
    'quern_audit_outbox_state{state="full",service="gateway"} 1',
    'quern_audit_publisher_state{state="stopped",service="gateway"} 1',
  ]) {
    assert.ok(second.includes(`${line}\n`), `${line}\n${second}`);
  }
});
