// Alerts of the engine: KV cache, scheduling, restarts.
import { type AlertCase, fires, silent, threshold } from './alert-case.ts';

const ENGINE = 'model_name="m",instance="e:9153",service="engine"';

export const engine: readonly AlertCase[] = [
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
