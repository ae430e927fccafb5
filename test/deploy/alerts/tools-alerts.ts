// Alerts of the tool service: the sandbox, how calls end.
import { type AlertCase, fires, silent } from './alert-case.ts';

const AT = 'instance="t:9154",service="tools"';
const tier = (name: string): string => `quern_tools_sandbox_tier{tier="${name}",${AT}}`;
const layer = (name: string): string => `quern_tools_sandbox_capability{capability="${name}",${AT}}`;
const ended = (outcome: string): string => `quern_tools_executions_total{kind="builtin",outcome="${outcome}",${AT}}`;

export const tools: readonly AlertCase[] = [
  fires('ToolsSandboxMissing', 'a layer failed', { [tier('A')]: '1 0x30', [tier('none')]: '0 1x30' }, 7),
  silent('ToolsSandboxMissing', 'all layers are there', { [tier('A')]: '1x30', [tier('none')]: '0x30' }, 20),
  silent('ToolsSandboxMissing', 'it came back at once', { [tier('none')]: '0 1x2 0x30' }, 8),
  fires(
    'ToolsSandboxLayerMissing',
    'tools run without cgroups',
    { [layer('cgroup')]: '0x40', [layer('seccomp')]: '1x40', [tier('none')]: '0x40' },
    17,
  ),
  silent(
    'ToolsSandboxLayerMissing',
    'nothing runs: the other alert says so',
    { [layer('seccomp')]: '0x40', [tier('none')]: '1x40' },
    20,
  ),
  silent('ToolsSandboxLayerMissing', 'all are there', { [layer('seccomp')]: '1x40', [tier('none')]: '0x40' }, 20),
  fires(
    'ToolsSandboxTestOld',
    'no test for an hour',
    { [`quern_tools_sandbox_probe_age_seconds{${AT}}`]: '0+60x60' },
    40,
  ),
  silent(
    'ToolsSandboxTestOld',
    'every five minutes',
    { [`quern_tools_sandbox_probe_age_seconds{${AT}}`]: '300x60' },
    40,
  ),
  fires(
    'ToolsSandboxSetupFails',
    'a tenth',
    { [ended('ok')]: '0+9x30', [ended('sandbox_setup_failed')]: '0+1x30' },
    12,
  ),
  silent(
    'ToolsSandboxSetupFails',
    'one in a hundred',
    { [ended('ok')]: '0+99x30', [ended('sandbox_setup_failed')]: '0+1x30' },
    12,
  ),
  silent(
    'ToolsSandboxSetupFails',
    'programs that fail by themselves',
    { [ended('nonzero_exit')]: '0+9x30', [ended('oom')]: '0+9x30' },
    12,
  ),
  fires('ToolsQueueLong', 'all the time', { [`quern_tools_queued{${AT}}`]: '40x30' }, 12),
  silent(
    'ToolsQueueLong',
    'it empties now and then',
    { [`quern_tools_queued{${AT}}`]: '40 40 0 40 40 0 40 40 0 40 40 0 40 40 0' },
    12,
  ),
];
