// What the audit service counts: records in, what lags, how full the stream is, how old the newest checkpoint.
import { jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { AUDIT_STREAM } from '#kit/audit/stream.ts';
import type { Metrics } from '#kit/metrics.ts';
import type { ConsumerStats } from './consumer.ts';
import { STREAM_LOOK_MS } from './limits.ts';
import { WITNESS_STATES, type WitnessState } from './witness.ts';
import type { BatchResult } from './writer.ts';

/** Read at each scrape. */
export type AuditGauges = {
  consumer(): ConsumerStats;
  /** Records in the ledger, and of these in the view. */
  ledgerRecords(): number;
  viewRecords(): number;
  /** RFC 3339; null before the first checkpoint. */
  checkpointTs(): string | null;
  witnesses(): WitnessState[];
  /** Of the time by which records age. */
  clockAheadMs(): number;
  /** Throws when there is no connection. */
  nats(): NatsConnection;
};

const CONSUMER_STATES = ['reading', 'waiting', 'failed'] as const;

/** Counts what the writer stored. */
export function countBatches(metrics: Metrics): (result: BatchResult) => void {
  const records = metrics.counter({ name: 'quern_audit_records_total', help: 'Records stored in the ledger' });
  const duplicates = metrics.counter({
    name: 'quern_audit_duplicates_total',
    help: 'Records that producers sent again',
  });
  const alarms = metrics.counter({
    name: 'quern_audit_alarms_total',
    help: 'Records that do not follow their producer, by what is wrong',
    labels: ['kind'],
  });
  return (result) => {
    records.inc({}, result.records);
    duplicates.inc({}, result.duplicates);
    for (const { kind } of result.alarms) alarms.inc({ kind });
  };
}

async function streamBytes(connection: NatsConnection): Promise<{ used: number; max: number; messages: number }> {
  const admin = await jetstreamManager(connection, { timeout: STREAM_LOOK_MS, checkAPI: false });
  const { state, config } = await admin.streams.info(AUDIT_STREAM);
  return { used: state.bytes, max: config.max_bytes, messages: state.messages };
}

/** By the place of a witness in the configuration, from 0: paths are nobody's business. */
function watchWitnesses(metrics: Metrics, gauges: AuditGauges): void {
  metrics.gauge({
    name: 'quern_audit_witness_state',
    help: '1 for the state of a witness: ok, late (it does not answer) or failed (it could not be written)',
    labels: ['witness', 'state'],
    collect(set) {
      for (const [i, { state }] of gauges.witnesses().entries()) {
        for (const one of WITNESS_STATES) set(one === state ? 1 : 0, { witness: String(i), state: one });
      }
    },
  });
  metrics.gauge({
    name: 'quern_audit_witness_waiting_notes',
    help: 'Signed notes that a witness does not have yet',
    labels: ['witness'],
    collect(set) {
      for (const [i, { waitingNotes }] of gauges.witnesses().entries()) set(waitingNotes, { witness: String(i) });
    },
  });
}

export function watchAudit(metrics: Metrics, gauges: AuditGauges): void {
  const gauge = (name: string, help: string, read: () => number | null): void => {
    metrics.gauge({
      name,
      help,
      collect(set) {
        const value = read();
        if (value !== null) set(value);
      },
    });
  };
  gauge('quern_audit_ledger_records', 'Records in the ledger', gauges.ledgerRecords);
  gauge('quern_audit_projection_lag', 'Records in the ledger that the view does not have', () =>
    Math.max(0, gauges.ledgerRecords() - gauges.viewRecords()),
  );
  gauge(
    'quern_audit_stream_pending_messages',
    'Messages of the stream that the ledger does not have, as of the last one read',
    () => gauges.consumer().pendingMessages,
  );
  gauge('quern_audit_checkpoint_age_seconds', 'Age of the newest signed checkpoint; absent before the first', () => {
    const ts = gauges.checkpointTs();
    return ts === null ? null : Math.max(0, Date.now() - Date.parse(ts)) / 1000;
  });
  gauge(
    'quern_audit_clock_ahead_seconds',
    'How far the clock is ahead of the time by which records age; 0 when it is believed',
    () => gauges.clockAheadMs() / 1000,
  );
  metrics.gauge({
    name: 'quern_audit_consumer_state',
    help: '1 for the state of the reader: reading, waiting (NATS is away) or failed (the ledger takes nothing more)',
    labels: ['state'],
    collect(set) {
      const now = gauges.consumer().state;
      for (const state of CONSUMER_STATES) set(state === now ? 1 : 0, { state });
    },
  });
  watchWitnesses(metrics, gauges);
  metrics.gauge({
    name: 'quern_audit_stream_bytes',
    help: 'The stream AUDIT: bytes it holds and bytes at which it refuses more; absent while NATS is away',
    labels: ['kind'],
    async collect(set) {
      const { used, max } = await streamBytes(gauges.nats());
      set(used, { kind: 'used' });
      set(max, { kind: 'max' });
    },
  });
}
