// For every alert of deploy/prometheus/rules: series under which it fires, and such under which it must stay silent. In the
// notation of promtool: 'a+bxn' is a, a+b, ... n more times, one value a minute; '_' is no value.

export type AlertCase = {
  alert: string;
  /** Why it fires, or why it does not. */
  because: string;
  series: Record<string, string>;
  /** Minutes after the first value. */
  at: number;
  /** Alerts that fire then; 0: silent. */
  fires: number;
};

const COMPLETION = 'gen_ai_operation_name="text_completion",service="gateway"';

/** Completions per minute over `minutes`, of which `slow` take longer than 1.5 s, cancelled ones aside. */
function completions(total: number, slow: number, minutes: number): Record<string, string> {
  const name = 'gen_ai_server_request_duration_seconds';
  return {
    [`${name}_bucket{${COMPLETION},le="1.5"}`]: `0+${total - slow}x${minutes}`,
    [`${name}_bucket{${COMPLETION},le="2.5"}`]: `0+${total - slow}x${minutes}`,
    [`${name}_bucket{${COMPLETION},le="5"}`]: `0+${total}x${minutes}`,
    [`${name}_bucket{${COMPLETION},le="+Inf"}`]: `0+${total}x${minutes}`,
    [`${name}_count{${COMPLETION}}`]: `0+${total}x${minutes}`,
  };
}

function firstTokens(total: number, slow: number, minutes: number): Record<string, string> {
  const name = 'gen_ai_server_time_to_first_token_seconds';
  return {
    [`${name}_bucket{service="gateway",le="0.35"}`]: `0+${total - slow}x${minutes}`,
    [`${name}_count{service="gateway"}`]: `0+${total}x${minutes}`,
  };
}

/** Requests per minute by outcome. */
function requests(outcomes: Record<string, number>, minutes = 60): Record<string, string> {
  return Object.fromEntries(
    Object.entries(outcomes).map(([outcome, count]) => [
      `quern_gateway_requests_total{model="m",outcome="${outcome}"}`,
      `0+${count}x${minutes}`,
    ]),
  );
}

const fires = (alert: string, because: string, series: Record<string, string>, at: number, count = 1): AlertCase => ({
  alert,
  because,
  series,
  at,
  fires: count,
});
const silent = (alert: string, because: string, series: Record<string, string>, at: number): AlertCase =>
  fires(alert, because, series, at, 0);

/** A gauge that stands at `high` fires, at `low` it does not, and `high` for less than its time does not either. */
function threshold(alert: string, series: string, options: { high: string; low: string; at: number }): AlertCase[] {
  const { high, low, at } = options;
  const early = at > 1 ? [silent(alert, 'not for long enough', { [series]: `${low} ${low} ${high}x60` }, at - 1)] : [];
  return [
    fires(alert, `stands at ${high}`, { [series]: `${high}x60` }, at),
    silent(alert, `stands at ${low}`, { [series]: `${low}x60` }, at + 30),
    ...early,
  ];
}

const objectives: AlertCase[] = [
  fires('CompletionLatencyBurnFast', '20 % slow for an hour', completions(100, 20, 70), 65),
  silent('CompletionLatencyBurnFast', '10 % slow: the slow burn', completions(100, 10, 400), 370),
  silent(
    'CompletionLatencyBurnFast',
    'slow ones are over',
    {
      ...completions(100, 0, 200),
      [`gen_ai_server_request_duration_seconds_bucket{${COMPLETION},le="1.5"}`]: '0+60x60 3700+100x60',
    },
    75,
  ),
  fires('CompletionLatencyBurnSlow', '10 % slow for six hours', completions(100, 10, 400), 380),
  silent('CompletionLatencyBurnSlow', '5 % slow', completions(100, 5, 400), 380),
  fires('FirstTokenBurnFast', '20 % slow for an hour', firstTokens(100, 20, 70), 65),
  silent('FirstTokenBurnFast', '10 % slow', firstTokens(100, 10, 400), 370),
  fires('FirstTokenBurnSlow', '10 % slow for six hours', firstTokens(100, 10, 400), 380),
  silent('FirstTokenBurnSlow', '5 % slow', firstTokens(100, 5, 400), 380),
];

const ENGINE = 'model_name="m",instance="e:9153",service="engine"';

const serving: AlertCase[] = [
  fires('TargetDown', 'the engine is away', { 'up{job="quern-engine",instance="e"}': '0x5' }, 2),
  silent('TargetDown', 'another job is away', { 'up{job="node",instance="e"}': '0x5' }, 4),
  silent('TargetDown', 'one missed scrape', { 'up{job="quern-engine",instance="e"}': '1 0 1x9' }, 2),
  fires(
    'ModelNotServed',
    'both engines are not ready',
    {
      'quern_gateway_engine_ready{model="m",engine="a"}': '0x9',
      'quern_gateway_engine_ready{model="m",engine="b"}': '0x9',
    },
    3,
  ),
  silent(
    'ModelNotServed',
    'one engine is ready',
    {
      'quern_gateway_engine_ready{model="m",engine="a"}': '0x9',
      'quern_gateway_engine_ready{model="m",engine="b"}': '1x9',
    },
    8,
  ),
  fires(
    'AdmissionStalled',
    'five wait, none runs',
    { [`quern_engine_requests_waiting{${ENGINE}}`]: '5x9', [`quern_engine_requests_running{${ENGINE}}`]: '0x9' },
    4,
  ),
  silent(
    'AdmissionStalled',
    'a queue that moves',
    { [`quern_engine_requests_waiting{${ENGINE}}`]: '5x9', [`quern_engine_requests_running{${ENGINE}}`]: '1x9' },
    8,
  ),
  silent(
    'AdmissionStalled',
    'idle',
    { [`quern_engine_requests_waiting{${ENGINE}}`]: '0x9', [`quern_engine_requests_running{${ENGINE}}`]: '0x9' },
    8,
  ),
  fires('CompletionSlow', 'a tenth takes 2.5 to 5 s', completions(100, 10, 30), 15),
  silent('CompletionSlow', 'one in a hundred does', completions(100, 1, 30), 25),
  fires('ErrorRatioHigh', '10 % unavailable', requests({ stop: 90, unavailable: 10 }), 15),
  silent(
    'ErrorRatioHigh',
    'wrong requests and cancels are no errors',
    requests({ stop: 50, cancelled: 40, invalid_argument: 10 }),
    30,
  ),
  fires('SuccessRatioLow', '5 % refused', requests({ stop: 95, resource_exhausted: 5 }), 50),
  silent(
    'SuccessRatioLow',
    'cancels do not count',
    requests({ stop: 50, length: 10, cancelled: 200, superseded: 9 }),
    50,
  ),
  fires(
    'ShedRatioHigh',
    'a tenth is shed',
    { 'quern_gateway_shed_total{reason="requests"}': '0+10x30', ...requests({ stop: 90, resource_exhausted: 10 }) },
    15,
  ),
  silent(
    'ShedRatioHigh',
    'one in a hundred is',
    { 'quern_gateway_shed_total{reason="requests"}': '0+1x30', ...requests({ stop: 99, resource_exhausted: 1 }) },
    25,
  ),
  fires('EngineSessionsBreak', 'two requests resumed', { 'quern_gateway_resumes_total{model="m"}': '0x5 2x20' }, 8),
  silent('EngineSessionsBreak', 'long ago', { 'quern_gateway_resumes_total{model="m"}': '0 2x40' }, 30),
  ...threshold('ZombieRequests', 'quern_gateway_zombie_requests{model="m",engine="a"}', { high: '3', low: '0', at: 3 }),
  fires(
    'RpcFaults',
    'a tenth ends INTERNAL',
    {
      'quern_rpc_server_duration_seconds_count{service="engine",code="OK"}': '0+90x30',
      'quern_rpc_server_duration_seconds_count{service="engine",code="INTERNAL"}': '0+10x30',
    },
    15,
  ),
  silent(
    'RpcFaults',
    'cancels and wrong requests are no faults',
    {
      'quern_rpc_server_duration_seconds_count{service="engine",code="OK"}': '0+50x30',
      'quern_rpc_server_duration_seconds_count{service="engine",code="CANCELLED"}': '0+40x30',
      'quern_rpc_server_duration_seconds_count{service="engine",code="INVALID_ARGUMENT"}': '0+40x30',
    },
    25,
  ),
  fires(
    'TokenizerSlow',
    'a tenth takes more than 250 ms',
    {
      'quern_tokenizer_session_call_duration_seconds_bucket{rpc="Encode",le="0.1"}': '0+90x40',
      'quern_tokenizer_session_call_duration_seconds_bucket{rpc="Encode",le="0.25"}': '0+90x40',
      'quern_tokenizer_session_call_duration_seconds_bucket{rpc="Encode",le="0.5"}': '0+100x40',
      'quern_tokenizer_session_call_duration_seconds_bucket{rpc="Encode",le="+Inf"}': '0+100x40',
    },
    20,
  ),
  silent(
    'TokenizerSlow',
    'all within 100 ms',
    {
      'quern_tokenizer_session_call_duration_seconds_bucket{rpc="Encode",le="0.1"}': '0+100x40',
      'quern_tokenizer_session_call_duration_seconds_bucket{rpc="Encode",le="+Inf"}': '0+100x40',
    },
    35,
  ),
  fires(
    'TraceSpansDropped',
    'the queue overflows',
    { 'quern_trace_spans_dropped_total{service="gateway",reason="full"}': '0+5x30' },
    12,
  ),
  silent(
    'TraceSpansDropped',
    'none lately',
    { 'quern_trace_spans_dropped_total{service="gateway",reason="full"}': '7x60' },
    40,
  ),
  fires(
    'CollectorSpansFailed',
    'the storage refuses',
    { 'otelcol_exporter_send_failed_spans_total{exporter="jaeger_storage_exporter"}': '0+9x30' },
    12,
  ),
  fires(
    'CollectorSpansFailed',
    'older name',
    { 'otelcol_exporter_send_failed_spans{exporter="jaeger_storage_exporter"}': '0+9x30' },
    12,
  ),
  silent(
    'CollectorSpansFailed',
    'none',
    { 'otelcol_exporter_send_failed_spans_total{exporter="jaeger_storage_exporter"}': '3x60' },
    40,
  ),
];

const engine: AlertCase[] = [
  ...threshold('KvPressure', `quern_engine_kv_used_ratio{${ENGINE}}`, { high: '0.95', low: '0.85', at: 6 }),
  fires(
    'KvFragmentationHigh',
    'a fifth of a busy cache',
    {
      [`quern_engine_kv_fragmentation_ratio{${ENGINE}}`]: '0.2x30',
      [`quern_engine_kv_used_ratio{${ENGINE}}`]: '0.7x30',
    },
    12,
  ),
  silent(
    'KvFragmentationHigh',
    'half of a nearly empty cache',
    {
      [`quern_engine_kv_fragmentation_ratio{${ENGINE}}`]: '0.5x30',
      [`quern_engine_kv_used_ratio{${ENGINE}}`]: '0.1x30',
    },
    25,
  ),
  fires('PreemptionsSustained', 'every minute', { [`quern_engine_preemptions_total{${ENGINE}}`]: '0+2x30' }, 14),
  silent('PreemptionsSustained', 'once', { [`quern_engine_preemptions_total{${ENGINE}}`]: '0x5 1x60' }, 15),
  fires('EngineRestarted', 'once', { 'process_start_time_seconds{service="engine",instance="e"}': '100x5 700x30' }, 8),
  silent(
    'EngineRestarted',
    'another service',
    { 'process_start_time_seconds{service="gateway",instance="g"}': '100x5 700x30' },
    8,
  ),
  silent(
    'EngineRestarted',
    'long ago',
    { 'process_start_time_seconds{service="engine",instance="e"}': '100x5 700x60' },
    40,
  ),
  fires(
    'EngineCrashLoop',
    'three times',
    { 'process_start_time_seconds{service="engine",instance="e"}': '100 100 200 300 400x30' },
    8,
  ),
  silent('EngineCrashLoop', 'once', { 'process_start_time_seconds{service="engine",instance="e"}': '100x5 700x30' }, 8),
  fires(
    'EngineStalled',
    'two run, no step ends',
    { [`quern_engine_steps_total{${ENGINE}}`]: '50x30', [`quern_engine_requests_running{${ENGINE}}`]: '2x30' },
    6,
  ),
  silent(
    'EngineStalled',
    'idle',
    { [`quern_engine_steps_total{${ENGINE}}`]: '50x30', [`quern_engine_requests_running{${ENGINE}}`]: '0x30' },
    20,
  ),
  silent(
    'EngineStalled',
    'steps end',
    { [`quern_engine_steps_total{${ENGINE}}`]: '0+50x30', [`quern_engine_requests_running{${ENGINE}}`]: '2x30' },
    20,
  ),
  fires(
    'CancelSlotLeak',
    'one was never released',
    {
      [`quern_engine_slots_cancelled_total{${ENGINE}}`]: '1+5x40',
      [`quern_engine_slots_released_total{${ENGINE}}`]: '0+5x40',
    },
    20,
  ),
  silent(
    'CancelSlotLeak',
    'released a little later',
    {
      [`quern_engine_slots_cancelled_total{${ENGINE}}`]: '0+5x40',
      [`quern_engine_slots_released_total{${ENGINE}}`]: '0 5 9 15+5x40',
    },
    35,
  ),
];

const PRODUCER = 'service="gateway",instance="g"';

const audit: AlertCase[] = [
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

const producers: AlertCase[] = [
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

const HOST = 'instance="h",service="gateway"';
const GPU = 'gpu="0",instance="h:9400"';

const host: AlertCase[] = [
  fires(
    'LoadHigh',
    '9 on 8 processors',
    { [`quern_host_load1{${HOST}}`]: '9x20', [`quern_host_cpus{${HOST}}`]: '8x20' },
    6,
  ),
  silent('LoadHigh', '7 on 8', { [`quern_host_load1{${HOST}}`]: '7x20', [`quern_host_cpus{${HOST}}`]: '8x20' }, 15),
  fires(
    'MemoryLow',
    '5 % available',
    {
      [`quern_host_memory_bytes{${HOST},kind="available"}`]: '5x20',
      [`quern_host_memory_bytes{${HOST},kind="total"}`]: '100x20',
    },
    6,
  ),
  silent(
    'MemoryLow',
    '30 % available',
    {
      [`quern_host_memory_bytes{${HOST},kind="available"}`]: '30x20',
      [`quern_host_memory_bytes{${HOST},kind="total"}`]: '100x20',
    },
    15,
  ),
  fires(
    'ProcessMemoryGrows',
    'doubled in a day',
    { [`process_resident_memory_bytes{${HOST}}`]: '900000000x1440 2000000000x60' },
    1480,
  ),
  silent(
    'ProcessMemoryGrows',
    'doubled and small',
    { [`process_resident_memory_bytes{${HOST}}`]: '90000000x1440 300000000x60' },
    1480,
  ),
  fires(
    'FileDescriptorsLow',
    '900 of 1000',
    { [`process_open_fds{${HOST}}`]: '900x20', [`process_max_fds{${HOST}}`]: '1000x20' },
    6,
  ),
  silent(
    'FileDescriptorsLow',
    '100 of 1000',
    { [`process_open_fds{${HOST}}`]: '100x20', [`process_max_fds{${HOST}}`]: '1000x20' },
    15,
  ),
  ...threshold('EventLoopLag', `nodejs_eventloop_lag_p99_seconds{${HOST}}`, { high: '0.3', low: '0.02', at: 6 }),
  ...threshold('ZombieProcesses', `quern_process_zombie_children{${HOST}}`, { high: '1', low: '0', at: 6 }),
  fires('ZombieProcesses', 'node_exporter sees some', { 'node_processes_state{instance="h",state="Z"}': '2x20' }, 6),
  ...threshold('CpuTemperatureHigh', 'node_hwmon_temp_celsius{instance="h",sensor="temp1"}', {
    high: '95',
    low: '70',
    at: 6,
  }),
  ...threshold('GpuTemperatureHigh', `DCGM_FI_DEV_GPU_TEMP{${GPU}}`, { high: '90', low: '75', at: 6 }),
  fires(
    'VramPressure',
    '95 %',
    { [`DCGM_FI_DEV_FB_USED{${GPU}}`]: '95x20', [`DCGM_FI_DEV_FB_FREE{${GPU}}`]: '5x20' },
    6,
  ),
  silent(
    'VramPressure',
    '80 %',
    { [`DCGM_FI_DEV_FB_USED{${GPU}}`]: '80x20', [`DCGM_FI_DEV_FB_FREE{${GPU}}`]: '20x20' },
    15,
  ),
  ...threshold('GpuSaturated', `DCGM_FI_PROF_GR_ENGINE_ACTIVE{${GPU}}`, { high: '0.95', low: '0.7', at: 6 }),
  fires(
    'GpuUtilisationOutOfBand',
    '30 % under load',
    { [`DCGM_FI_PROF_GR_ENGINE_ACTIVE{${GPU}}`]: '0.3x30', ...requests({ stop: 5 }) },
    12,
  ),
  fires(
    'GpuUtilisationOutOfBand',
    '85 % under load',
    { [`DCGM_FI_PROF_GR_ENGINE_ACTIVE{${GPU}}`]: '0.85x30', ...requests({ stop: 5 }) },
    12,
  ),
  silent(
    'GpuUtilisationOutOfBand',
    '70 %',
    { [`DCGM_FI_PROF_GR_ENGINE_ACTIVE{${GPU}}`]: '0.7x30', ...requests({ stop: 5 }) },
    25,
  ),
  silent(
    'GpuUtilisationOutOfBand',
    'nobody asks',
    { [`DCGM_FI_PROF_GR_ENGINE_ACTIVE{${GPU}}`]: '0.01x30', ...requests({ stop: 0 }) },
    25,
  ),
  fires('GpuXidErrors', 'XID 79', { [`DCGM_FI_DEV_XID_ERRORS{${GPU}}`]: '0 79 0x9' }, 3),
  silent('GpuXidErrors', 'none', { [`DCGM_FI_DEV_XID_ERRORS{${GPU}}`]: '0x20' }, 15),
];

export const alertCases: readonly AlertCase[] = [...objectives, ...serving, ...engine, ...audit, ...producers, ...host];
