import { type Dashboard, lines, stat } from './panels.ts';

export const audit: Dashboard = {
  uid: 'quern-audit',
  title: 'Quern: audit',
  description: 'Whether every record is on its way, stored and signed.',
  variables: [],
  rows: [
    {
      title: 'Now',
      panels: [
        stat('Not whole', 'Records that do not follow their producer; must be 0', 'none', [
          ['sum(quern_audit_alarms_total) or vector(0)', ''],
        ]),
        stat('Oldest unsent', 'In any outbox', 's', [['max(quern_audit_outbox_oldest_seconds)', '']]),
        stat('Fullest outbox', 'Alert above 80 %', 'percentunit', [
          ['max(quern_audit_outbox_bytes / quern_audit_outbox_max_bytes)', ''],
        ]),
        stat('Stream', 'Share of max_bytes', 'percentunit', [
          ['max(quern_audit_stream_bytes{kind="used"} / ignoring (kind) quern_audit_stream_bytes{kind="max"})', ''],
        ]),
        stat('Ledger', 'Records', 'short', [['max(quern_audit_ledger_records)', '']]),
        stat('Checkpoint', 'Age of the newest', 's', [['max(quern_audit_checkpoint_age_seconds)', '']]),
      ],
    },
    {
      title: 'Producers',
      panels: [
        lines('Written', 'Records per second', 'ops', [
          ['sum by (service) (rate(quern_audit_outbox_records[$__rate_interval]))', '{{service}}'],
        ]),
        lines('Unsent', 'Records that the stream does not have', 'none', [
          ['quern_audit_outbox_unsent_records', '{{service}} {{instance}}'],
        ]),
        lines('Not covered', 'Records that no checked checkpoint covers yet', 'none', [
          ['quern_audit_outbox_records - quern_audit_covered_records', '{{service}} {{instance}}'],
        ]),
        lines('Refused and unrecorded', 'Should be 0', 'ops', [
          ['sum by (action) (rate(quern_audit_refused_records_total[$__rate_interval]))', 'refused: {{action}}'],
          ['sum(rate(quern_gateway_unrecorded_requests_total[$__rate_interval]))', 'served unrecorded'],
        ]),
        lines('Outbox', 'Bytes, until a checkpoint covers them', 'bytes', [
          ['quern_audit_outbox_bytes', '{{service}} {{instance}}'],
        ]),
        lines('Refusing or stopped', 'Should be empty', 'none', [
          ['quern_audit_outbox_state{state=~"full|failed"} == 1', 'outbox {{state}}: {{service}} {{instance}}'],
          ['quern_audit_publisher_state{state!="sending"} == 1', 'publisher {{state}}: {{service}} {{instance}}'],
        ]),
      ],
    },
    {
      title: 'Ledger',
      panels: [
        lines('Stored', 'Records per second', 'ops', [
          ['sum(rate(quern_audit_records_total[$__rate_interval]))', 'new'],
          ['sum(rate(quern_audit_duplicates_total[$__rate_interval]))', 'came again'],
        ]),
        lines('Behind', 'The stream, and the view', 'none', [
          ['quern_audit_stream_pending_messages', 'messages in the stream'],
          ['quern_audit_projection_lag', 'records not in the view'],
        ]),
        lines('Reader', 'State', 'none', [['quern_audit_consumer_state == 1', '{{state}}']]),
        lines('Witnesses', 'Those that do not take notes, by their place in QUERN_AUDIT_WITNESSES', 'none', [
          ['quern_audit_witness_state{state!="ok"} == 1', 'witness {{witness}} {{state}}'],
        ]),
        lines('Notes waiting', 'Signed notes that a witness lacks', 'none', [
          ['quern_audit_witness_waiting_notes', 'witness {{witness}}'],
        ]),
        lines('Clock ahead', 'Of the time by which records age; 0: it is believed', 's', [
          ['quern_audit_clock_ahead_seconds', 'ahead'],
        ]),
      ],
    },
  ],
};
