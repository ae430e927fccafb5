// Alerts of the machine and its GPUs.
import { type AlertCase, fires, requests, silent, threshold } from './alert-case.ts';

const HOST = 'instance="h",service="gateway"';
const GPU = 'gpu="0",instance="h:9400"';

export const host: readonly AlertCase[] = [
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
