// How calls end: the contract's outcomes as words, and what a person is told of each.
import { Outcome } from '#gen/quern/tools/v1/tools.ts';
import type { KillReason } from './jail/sandbox.ts';

/** The contract's names without their prefix, in lower case; the values of the label "outcome". */
export const OUTCOME_WORDS = {
  ok: Outcome.OUTCOME_OK,
  nonzero_exit: Outcome.OUTCOME_NONZERO_EXIT,
  timeout_wall: Outcome.OUTCOME_TIMEOUT_WALL,
  timeout_cpu: Outcome.OUTCOME_TIMEOUT_CPU,
  oom: Outcome.OUTCOME_OOM,
  pids: Outcome.OUTCOME_PIDS,
  output_limit: Outcome.OUTCOME_OUTPUT_LIMIT,
  disk_limit: Outcome.OUTCOME_DISK_LIMIT,
  cancelled: Outcome.OUTCOME_CANCELLED,
  deadline: Outcome.OUTCOME_DEADLINE,
  denied_policy: Outcome.OUTCOME_DENIED_POLICY,
  denied_approval: Outcome.OUTCOME_DENIED_APPROVAL,
  invalid_args: Outcome.OUTCOME_INVALID_ARGS,
  sandbox_setup_failed: Outcome.OUTCOME_SANDBOX_SETUP_FAILED,
  sandbox_unavailable: Outcome.OUTCOME_SANDBOX_UNAVAILABLE,
  killed_by_drain: Outcome.OUTCOME_KILLED_BY_DRAIN,
  unknown: Outcome.OUTCOME_UNKNOWN,
  no_approver: Outcome.OUTCOME_NO_APPROVER,
  not_configured: Outcome.OUTCOME_NOT_CONFIGURED,
} as const satisfies Record<string, Outcome>;

export type OutcomeWord = keyof typeof OUTCOME_WORDS;

/** Null: not one of ours. */
export function outcomeWord(outcome: Outcome): OutcomeWord | null {
  const found = Object.entries(OUTCOME_WORDS).find(([, value]) => value === outcome);
  return found ? (found[0] as OutcomeWord) : null;
}

/** Why the service itself ended a call. */
export type StopCause = 'cancelled' | 'deadline' | 'drain';

export const STOP_OUTCOMES: Readonly<Record<StopCause, OutcomeWord>> = {
  cancelled: 'cancelled',
  deadline: 'deadline',
  drain: 'killed_by_drain',
};

export const KILL_OUTCOMES: Readonly<Record<KillReason, OutcomeWord>> = {
  wall: 'timeout_wall',
  cpu: 'timeout_cpu',
  memory: 'oom',
  pids: 'pids',
  output: 'output_limit',
  disk: 'disk_limit',
  cancelled: 'cancelled',
  drain: 'killed_by_drain',
};

const MIB = 1024 * 1024;

export type ToldLimits = { wallMs: number; cpuMs: number; memoryBytes: number; pids: number; outputBytes: number };

/** One sentence for a person and for the model: what happened, and what to do. */
export function killMessage(outcome: OutcomeWord, limits: ToldLimits): string {
  const { wallMs, cpuMs, memoryBytes, pids, outputBytes } = limits;
  switch (outcome) {
    case 'timeout_wall':
      return `ended after ${wallMs} ms, the limit of this tool; do less in one call`;
    case 'timeout_cpu':
      return `ended after ${cpuMs} ms of CPU time, the limit of this tool; do less in one call`;
    case 'oom':
      return `ended because it needed more than ${Math.floor(memoryBytes / MIB)} MiB of memory, the limit of this tool; use less`;
    case 'pids':
      return `ended because it needed more than ${pids} processes and threads, the limit of this tool; start fewer`;
    case 'output_limit':
      return `ended because it wrote more than ${outputBytes} bytes, the limit of this tool; write less, or into a file`;
    case 'disk_limit':
      return 'ended because the workspace is full; remove files';
    case 'cancelled':
      return 'cancelled';
    case 'deadline':
      return "ended because the caller's deadline was near; allow more time, or do less in one call";
    case 'killed_by_drain':
      return 'ended because the service is stopping; call again when it is back';
    default:
      return '';
  }
}
