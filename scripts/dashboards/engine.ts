import { type Dashboard, heatmap, lines, percentiles, stat, sumRate } from './panels.ts';

const MODEL = '{model_name=~"$model"}';

export const engine: Dashboard = {
  uid: 'quern-engine',
  title: 'Quern: engine',
  description: 'KV cache, scheduling and steps of the engines, and their GPUs where dcgm-exporter runs.',
  variables: [{ name: 'model', label: 'model_name', metric: 'quern_engine_kv_blocks' }],
  rows: [
    {
      title: 'Now',
      panels: [
        stat('Running', 'Sequences in the batch', 'none', [[`sum(quern_engine_requests_running${MODEL})`, '']]),
        stat('Waiting', 'Sequences without a place', 'none', [[`sum(quern_engine_requests_waiting${MODEL})`, '']]),
        stat('KV in use', 'Alert above 90 %', 'percentunit', [[`max(quern_engine_kv_used_ratio${MODEL})`, '']]),
        stat('Prefix hits', 'Of the prompt tokens looked up', 'percentunit', [
          [
            ['hit', 'queried']
              .map((result) => `{result="${result}",model_name=~"$model"}`)
              .map((selector) => sumRate('quern_engine_prefix_tokens_total', selector, '', '5m'))
              .join(' / '),
            '',
          ],
        ]),
        stat('Generated', 'Tokens per second', 'short', [
          [`sum(quern_engine_generation_tokens_per_second${MODEL})`, ''],
        ]),
        stat('Restarts', 'Last hour', 'none', [['sum(changes(process_start_time_seconds{service="engine"}[1h]))', '']]),
      ],
    },
    {
      title: 'Scheduling',
      panels: [
        lines('Sequences', 'Running and waiting', 'none', [
          [`sum by (instance) (quern_engine_requests_running${MODEL})`, 'running {{instance}}'],
          [`sum by (instance) (quern_engine_requests_waiting${MODEL})`, 'waiting {{instance}}'],
        ]),
        lines('Prompt tokens that wait', 'For prefill', 'short', [
          [`sum by (instance) (quern_engine_waiting_prompt_tokens${MODEL})`, '{{instance}}'],
        ]),
        lines('Time of the model', 'Per step', 's', percentiles('quern_engine_step_seconds', MODEL)),
        lines('Steps', 'Per second', 'ops', [
          [`sum by (instance) (rate(quern_engine_steps_total${MODEL}[$__rate_interval]))`, '{{instance}}'],
        ]),
        lines('Queue', 'Submit to first step', 's', percentiles('quern_engine_queue_seconds', MODEL)),
        lines('Prefill', 'First step to first token', 's', percentiles('quern_engine_prefill_seconds', MODEL)),
        lines('Decode', 'First to last token', 's', percentiles('quern_engine_decode_seconds', MODEL)),
        heatmap('Tokens per step', 'Prefill and decode', 'short', [
          [`sum by (le) (increase(quern_engine_step_tokens_bucket${MODEL}[$__rate_interval]))`, '{{le}}'],
        ]),
        lines('Preemptions', 'Per second; should be 0', 'ops', [
          [`sum by (instance) (rate(quern_engine_preemptions_total${MODEL}[$__rate_interval]))`, '{{instance}}'],
        ]),
        lines('Ends', 'Choices per second by reason', 'ops', [
          [`sum by (reason) (rate(quern_engine_requests_total${MODEL}[$__rate_interval]))`, '{{reason}}'],
        ]),
      ],
    },
    {
      title: 'KV cache',
      panels: [
        lines('Blocks in use', 'Share held by sequences', 'percentunit', [
          [`quern_engine_kv_used_ratio${MODEL}`, '{{instance}}'],
        ]),
        lines('Blocks', 'All, free, and of these with a prefix', 'none', [
          [`sum(quern_engine_kv_blocks${MODEL})`, 'all'],
          [`sum(quern_engine_kv_free_blocks${MODEL})`, 'free'],
          [`sum(quern_engine_kv_cached_blocks${MODEL})`, 'free with a prefix'],
        ]),
        lines('Fragmentation', 'Share of the slots in held blocks that hold no token', 'percentunit', [
          [`quern_engine_kv_fragmentation_ratio${MODEL}`, '{{instance}}'],
        ]),
        lines('Prefix cache', 'Prompt tokens per second', 'short', [
          [`sum by (result) (rate(quern_engine_prefix_tokens_total${MODEL}[$__rate_interval]))`, '{{result}}'],
        ]),
        lines('Cancelled slots', 'Cancelled and not yet released', 'none', [
          [`quern_engine_slots_cancelled_total${MODEL} - quern_engine_slots_released_total${MODEL}`, '{{instance}}'],
          [`quern_engine_orphan_requests${MODEL}`, 'caller gone {{instance}}'],
        ]),
        lines(
          'Cancel',
          'Cancel to the end of the request',
          's',
          percentiles('quern_engine_cancel_latency_seconds', MODEL),
        ),
      ],
    },
    {
      title: 'GPU (dcgm-exporter)',
      panels: [
        lines('Utilisation', 'Wanted: 60 to 80 %', 'percentunit', [
          ['DCGM_FI_PROF_GR_ENGINE_ACTIVE', '{{instance}} {{gpu}}'],
        ]),
        lines('Memory', 'Share in use', 'percentunit', [
          ['DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)', '{{instance}} {{gpu}}'],
        ]),
        lines('Temperature', 'Alert above 85 °C', 'celsius', [['DCGM_FI_DEV_GPU_TEMP', '{{instance}} {{gpu}}']]),
      ],
    },
  ],
};
