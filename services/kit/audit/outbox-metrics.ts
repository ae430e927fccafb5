// What every producer of audit records shows of its outbox: how much lies there, what waits and for how long.
import type { GaugeMetric, Metrics } from '#kit/metrics.ts';
import { AUDIT_OUTBOX_HARD_BYTES } from './limits.ts';
import type { Outbox } from './outbox.ts';
import type { Publisher } from './publisher.ts';

export type WatchedOutbox = {
  outbox: Pick<Outbox, 'bytes' | 'status' | 'durableSeq'>;
  /** Null while there is none, as before the service is up. */
  publisher: Pick<Publisher, 'stats'> | null;
  /** Bytes at which the outbox refuses records. */
  hardBytes?: number;
};

const OUTBOX_STATES = ['open', 'full', 'failed', 'closed'];
const PUBLISHER_STATES = ['sending', 'waiting', 'stopped'];

/** 1 for the state that holds, 0 for the others: so an alert can ask for one by name. */
export function setState(set: GaugeMetric['set'], states: readonly string[], now: string): void {
  for (const state of states) set(state === now ? 1 : 0, { state });
}

/** Adds quern_audit_outbox_* and quern_audit_publisher_state. `read` is called at each scrape. */
export function watchOutbox(metrics: Metrics, read: () => WatchedOutbox): void {
  const gauge = (name: string, help: string, value: (now: WatchedOutbox) => number): void => {
    metrics.gauge({ name, help, collect: (set) => set(value(read())) });
  };
  gauge('quern_audit_outbox_bytes', 'Bytes in the audit outbox of this process', ({ outbox }) => outbox.bytes);
  gauge(
    'quern_audit_outbox_max_bytes',
    'Bytes at which it refuses records',
    ({ hardBytes }) => hardBytes ?? AUDIT_OUTBOX_HARD_BYTES,
  );
  gauge('quern_audit_outbox_records', 'Records that this producer has written', ({ outbox }) => outbox.durableSeq);
  gauge(
    'quern_audit_outbox_unsent_records',
    'Records that the stream does not have yet',
    ({ publisher }) => publisher?.stats.unsentRecords ?? 0,
  );
  gauge(
    'quern_audit_outbox_oldest_seconds',
    'Age of the oldest record that the stream does not have, 0 when it has all',
    ({ publisher }) => (publisher?.stats.oldestUnsentMs ?? 0) / 1000,
  );
  metrics.gauge({
    name: 'quern_audit_outbox_state',
    help: '1 for the state of the outbox: open, full (refuses for want of room), failed (its disk) or closed',
    labels: ['state'],
    collect: (set) => setState(set, OUTBOX_STATES, read().outbox.status),
  });
  metrics.gauge({
    name: 'quern_audit_publisher_state',
    help: '1 for the state of the publisher: sending, waiting (the stream takes nothing) or stopped (a second writer)',
    labels: ['state'],
    collect: (set) => setState(set, PUBLISHER_STATES, read().publisher?.stats.state ?? 'waiting'),
  });
}
