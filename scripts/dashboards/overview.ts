import { type Dashboard, heatmap, lines, mean, percentiles, stat, sumRate } from './panels.ts';

const DURATION = 'gen_ai_server_request_duration_seconds';
const COMPLETIONS = '{gen_ai_operation_name="text_completion",gen_ai_request_model=~"$model",error_type!="CANCELLED"}';
const MODEL = '{gen_ai_request_model=~"$model"}';

/** Requests by their tokens of one kind. */
const lengths = (kind: 'input' | 'output'): string =>
  `sum by (le) (increase(gen_ai_client_token_usage_bucket{gen_ai_token_type="${kind}",` +
  'gen_ai_request_model=~"$model"}[$__rate_interval]))';

export const overview: Dashboard = {
  uid: 'quern-overview',
  title: 'Quern: overview',
  description: 'Is it well, how fast is it, where does the time go.',
  variables: [{ name: 'model', label: 'model', metric: 'quern_gateway_engine_ready' }],
  rows: [
    {
      title: 'Now',
      panels: [
        stat('Requests', 'Ended per second', 'reqps', [
          ['sum(rate(quern_gateway_requests_total{model=~"$model"}[$__rate_interval]))', ''],
        ]),
        stat('Success', 'Of those that were not given up', 'percentunit', [
          [
            ['{outcome=~"stop|length"}', '{outcome!~"cancelled|superseded"}']
              .map((selector) => sumRate('quern_gateway_requests_total', selector, '', '5m'))
              .join(' / '),
            '',
          ],
        ]),
        stat('Completion p99', 'Objective: below 1.5 s', 's', [
          [`histogram_quantile(0.99, sum by (le) (rate(${DURATION}_bucket${COMPLETIONS}[5m])))`, ''],
        ]),
        stat('Over 1.5 s, last hour', 'Objective: below 1 %', 'percentunit', [
          ['quern:completions_over_1500ms:ratio_rate1h', ''],
        ]),
        stat('Engines ready', 'That take requests', 'none', [['sum(quern_gateway_engine_ready)', '']]),
        stat('Running', 'Admitted and not ended', 'none', [['sum(quern_gateway_requests_running)', '']]),
      ],
    },
    {
      title: 'Speed',
      panels: [
        lines('Completions', 'From arrival to the last event', 's', percentiles(DURATION, COMPLETIONS)),
        lines(
          'Time to first token',
          'Tokenization and queue included; objective 350 ms',
          's',
          percentiles('gen_ai_server_time_to_first_token_seconds', MODEL),
        ),
        lines('Between tokens', 'Two steps of one choice', 's', percentiles('quern_itl_seconds', '{model=~"$model"}')),
        lines('Where the time goes', 'Means per request', 's', [
          mean('quern_tokenizer_session_call_duration_seconds', '', 'tokenizer'),
          mean('quern_engine_queue_seconds', '{model_name=~"$model"}', 'queue'),
          mean('quern_engine_prefill_seconds', '{model_name=~"$model"}', 'prefill'),
          mean('quern_engine_decode_seconds', '{model_name=~"$model"}', 'decode'),
        ]),
        lines(
          'Per output token',
          'Mean of a request',
          's',
          percentiles('gen_ai_server_time_per_output_token_seconds', MODEL),
        ),
        lines(
          'Cancel',
          'From a Cancel to the end at the engine',
          's',
          percentiles('quern_gateway_cancel_latency_seconds', ''),
        ),
      ],
    },
    {
      title: 'Traffic',
      panels: [
        lines('Outcomes', 'Requests per second by how they ended', 'reqps', [
          ['sum by (outcome) (rate(quern_gateway_requests_total{model=~"$model"}[$__rate_interval]))', '{{outcome}}'],
        ]),
        lines('HTTP', 'Requests per second by status', 'reqps', [
          ['sum by (status) (rate(quern_gateway_http_requests_total[$__rate_interval]))', '{{status}}'],
        ]),
        lines('Shed', 'Refused by admission, by reason', 'reqps', [
          ['sum by (reason) (rate(quern_gateway_shed_total[$__rate_interval]))', '{{reason}}'],
        ]),
        lines('Tokens', 'Per second; cached ones are prompt tokens too', 'short', [
          ['sum by (kind) (rate(quern_gateway_tokens_total{model=~"$model"}[$__rate_interval]))', '{{kind}}'],
        ]),
        lines('Wasted tokens', 'Of requests that were given up', 'short', [
          [
            'sum by (reason) (rate(quern_gateway_tokens_wasted_total{model=~"$model"}[$__rate_interval]))',
            '{{reason}}',
          ],
        ]),
        lines('Routing', "This gateway's requests per engine", 'none', [
          ['sum by (engine) (quern_gateway_engine_requests{model=~"$model"})', '{{engine}}'],
        ]),
        heatmap('Prompt lengths', 'Tokens per request', 'short', [[lengths('input'), '{{le}}']]),
        heatmap('Output lengths', 'Tokens per request', 'short', [[lengths('output'), '{{le}}']]),
        lines('Resumed', 'Requests carried over a broken session', 'ops', [
          ['sum by (model) (rate(quern_gateway_resumes_total{model=~"$model"}[$__rate_interval]))', '{{model}}'],
        ]),
      ],
    },
    {
      title: 'Tools',
      panels: [
        lines('Calls', 'By how they ended', 'ops', [
          ['sum by (outcome) (rate(quern_tools_executions_total[$__rate_interval]))', '{{outcome}}'],
        ]),
        lines('Running and waiting', 'Calls with a place, without one, and for a person', 'none', [
          ['sum(quern_tools_running)', 'running'],
          ['sum(quern_tools_queued)', 'waiting for a place'],
          ['sum(quern_tools_approvals_pending)', 'waiting for a person'],
        ]),
        lines('Sandbox setup', "From a place to the tool's first instruction", 's', [
          ['histogram_quantile(0.5, sum by (le) (rate(quern_tools_setup_seconds_bucket[$__rate_interval])))', 'p50'],
          ['histogram_quantile(0.95, sum by (le) (rate(quern_tools_setup_seconds_bucket[$__rate_interval])))', 'p95'],
        ]),
        lines('Run time', 'Of the tool, p95 by kind', 's', [
          [
            'histogram_quantile(0.95, sum by (le, kind) (rate(quern_tools_run_seconds_bucket[$__rate_interval])))',
            '{{kind}}',
          ],
        ]),
        lines('Sandbox', 'Tier that holds; layers that are missing', 'none', [
          ['quern_tools_sandbox_tier == 1', 'tier {{tier}} {{instance}}'],
          ['quern_tools_sandbox_capability == 0', 'missing: {{capability}} {{instance}}'],
        ]),
        lines('Output', 'Bytes per second that tools wrote', 'bytes', [
          ['sum(rate(quern_tools_output_bytes_total[$__rate_interval]))', 'stdout and stderr'],
        ]),
      ],
    },
    {
      title: 'Processes',
      panels: [
        lines('Memory', 'Resident', 'bytes', [['process_resident_memory_bytes', '{{service}} {{instance}}']]),
        lines('CPU', 'Processors in use', 'none', [
          ['rate(process_cpu_seconds_total[$__rate_interval])', '{{service}} {{instance}}'],
        ]),
        lines('Event loop', 'Lateness, p99', 's', [['nodejs_eventloop_lag_p99_seconds', '{{service}} {{instance}}']]),
        lines('Load', 'Load average against processors', 'none', [
          ['max by (instance) (quern_host_load1)', 'load {{instance}}'],
          ['max by (instance) (quern_host_cpus)', 'processors {{instance}}'],
        ]),
        lines('Calls between services', 'gRPC, p99 by method', 's', [
          [
            'histogram_quantile(0.99, sum by (le, method) (rate(quern_rpc_server_duration_seconds_bucket[$__rate_interval])))',
            '{{method}}',
          ],
        ]),
        lines('Spans', 'Sent to the collector, and dropped', 'ops', [
          ['sum(rate(quern_trace_spans_sent_total[$__rate_interval]))', 'sent'],
          ['sum by (reason) (rate(quern_trace_spans_dropped_total[$__rate_interval]))', 'dropped: {{reason}}'],
        ]),
      ],
    },
  ],
};
