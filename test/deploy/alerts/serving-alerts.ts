// Alerts of what callers see: objectives, errors, and whether anything serves.
import {
  type AlertCase,
  COMPLETION,
  completions,
  fires,
  firstTokens,
  requests,
  silent,
  threshold,
} from './alert-case.ts';

const ENGINE = 'model_name="m",instance="e:9153",service="engine"';

export const objectives: readonly AlertCase[] = [
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

export const serving: readonly AlertCase[] = [
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
  fires('ShedRatioHigh', 'a tenth is shed, whoever shed it', requests({ stop: 90, resource_exhausted: 10 }), 15),
  silent('ShedRatioHigh', 'one in a hundred is', requests({ stop: 99, resource_exhausted: 1 }), 25),
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
