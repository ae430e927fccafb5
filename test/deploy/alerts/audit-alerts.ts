// Alerts of the audit log: whether records get away, arrive and are whole.
import { type AlertCase, fires, silent, threshold } from './alert-case.ts';

const PRODUCER = 'service="gateway",instance="g"';

export const audit: readonly AlertCase[] = [
  ...threshold('AuditOutboxOld', `quern_audit_outbox_oldest_seconds{${PRODUCER}}`, { high: '900', low: '20', at: 6 }),
  fires(
    'AuditOutboxNearlyFull',
    '90 %',
    { [`quern_audit_outbox_bytes{${PRODUCER}}`]: '90x30', [`quern_audit_outbox_max_bytes{${PRODUCER}}`]: '100x30' },
    6,
  ),
  silent(
    'AuditOutboxNearlyFull',
    'half',
    { [`quern_audit_outbox_bytes{${PRODUCER}}`]: '50x30', [`quern_audit_outbox_max_bytes{${PRODUCER}}`]: '100x30' },
    20,
  ),
  fires('AuditOutboxRefuses', 'full', { [`quern_audit_outbox_state{${PRODUCER},state="full"}`]: '1x5' }, 1),
  fires(
    'AuditOutboxRefuses',
    'its disk failed',
    { [`quern_audit_outbox_state{${PRODUCER},state="failed"}`]: '1x5' },
    1,
  ),
  silent(
    'AuditOutboxRefuses',
    'open',
    {
      [`quern_audit_outbox_state{${PRODUCER},state="open"}`]: '1x5',
      [`quern_audit_outbox_state{${PRODUCER},state="full"}`]: '0x5',
    },
    4,
  ),
  ...threshold('AuditPublisherStopped', `quern_audit_publisher_state{${PRODUCER},state="stopped"}`, {
    high: '1',
    low: '0',
    at: 2,
  }),
  ...threshold('AuditStreamLag', 'quern_audit_stream_pending_messages{instance="a"}', {
    high: '5000',
    low: '50',
    at: 6,
  }),
  ...threshold('AuditProjectionLag', 'quern_audit_projection_lag{instance="a"}', { high: '5000', low: '0', at: 6 }),
  fires(
    'AuditStreamNearlyFull',
    '90 %',
    {
      'quern_audit_stream_bytes{instance="a",kind="used"}': '90x30',
      'quern_audit_stream_bytes{instance="a",kind="max"}': '100x30',
    },
    6,
  ),
  silent(
    'AuditStreamNearlyFull',
    'half',
    {
      'quern_audit_stream_bytes{instance="a",kind="used"}': '50x30',
      'quern_audit_stream_bytes{instance="a",kind="max"}': '100x30',
    },
    20,
  ),
  ...threshold('AuditReaderWaits', 'quern_audit_consumer_state{instance="a",state="waiting"}', {
    high: '1',
    low: '0',
    at: 6,
  }),
  fires('AuditLedgerFailed', 'it failed', { 'quern_audit_consumer_state{instance="a",state="failed"}': '1x5' }, 1),
  silent('AuditLedgerFailed', 'it reads', { 'quern_audit_consumer_state{instance="a",state="failed"}': '0x5' }, 4),
  fires('AuditLogNotWhole', 'a gap', { 'quern_audit_alarms_total{kind="gap"}': '_x3 1x9' }, 5),
  silent('AuditLogNotWhole', 'nothing wrong', { 'quern_audit_alarms_total{kind="gap"}': '0x9' }, 5),
  fires(
    'AuditCheckpointOld',
    'records come, nobody signs',
    {
      'quern_audit_checkpoint_age_seconds{instance="a"}': '0+60x30',
      'quern_audit_records_total{instance="a"}': '0+100x30',
    },
    10,
  ),
  silent(
    'AuditCheckpointOld',
    'nothing to sign',
    {
      'quern_audit_checkpoint_age_seconds{instance="a"}': '0+60x30',
      'quern_audit_records_total{instance="a"}': '100x30',
    },
    25,
  ),
];

const WITNESS = 'instance="a",witness="0"';

export const witnesses: readonly AlertCase[] = [
  fires(
    'AuditWitnessBehind',
    'late, then failed',
    {
      [`quern_audit_witness_state{${WITNESS},state="late"}`]: '1x7 0x20',
      [`quern_audit_witness_state{${WITNESS},state="failed"}`]: '0x7 1x20',
    },
    12,
  ),
  silent(
    'AuditWitnessBehind',
    'it came back',
    {
      [`quern_audit_witness_state{${WITNESS},state="ok"}`]: '0x7 1x20',
      [`quern_audit_witness_state{${WITNESS},state="late"}`]: '1x7 0x20',
    },
    20,
  ),
  fires(
    'AuditWitnessLosesNotes',
    'hours of notes',
    { [`quern_audit_witness_waiting_notes{${WITNESS}}`]: '0+60x30' },
    12,
  ),
  silent('AuditWitnessLosesNotes', 'some wait', { [`quern_audit_witness_waiting_notes{${WITNESS}}`]: '40x30' }, 20),
  fires(
    'AuditClockAhead',
    'a step of 100 days',
    { 'quern_audit_clock_ahead_seconds{instance="a"}': '0x3 8640000x9' },
    5,
  ),
  silent('AuditClockAhead', 'away over a day', { 'quern_audit_clock_ahead_seconds{instance="a"}': '100000x9' }, 5),
];

export const producers: readonly AlertCase[] = [
  fires('AuditRecordsRefused', 'two', { [`quern_audit_refused_records_total{${PRODUCER},action="x"}`]: '0x5 2x20' }, 8),
  silent(
    'AuditRecordsRefused',
    'long ago',
    { [`quern_audit_refused_records_total{${PRODUCER},action="x"}`]: '0 2x40' },
    30,
  ),
  fires(
    'AuditUnrecordedRequests',
    'three',
    { [`quern_gateway_unrecorded_requests_total{${PRODUCER}}`]: '0x5 3x20' },
    8,
  ),
  silent('AuditUnrecordedRequests', 'none', { [`quern_gateway_unrecorded_requests_total{${PRODUCER}}`]: '0x20' }, 15),
  fires('AuditCoverageAlarm', 'forked', { [`quern_audit_coverage_alarms{${PRODUCER},alarm="forked"}`]: '0 0 1x9' }, 4),
  silent('AuditCoverageAlarm', 'none', { [`quern_audit_coverage_alarms{${PRODUCER},alarm="forked"}`]: '0x20' }, 15),
];
