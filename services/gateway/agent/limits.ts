// Every bound of agent runs, with its reason. Units last; relations are asserted when the module loads.
import { assert } from '#kit/assert.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

export type LimitName = 'turns' | 'calls' | 'calls_per_turn' | 'depth' | 'wall_ms' | 'tokens' | 'result_bytes';

/** AgentLimits: what a caller gets without asking, and the most it may ask for. Also in agent.proto. */
export const RUN_LIMITS: Readonly<Record<LimitName, { min: number; usual: number; max: number }>> = {
  turns: { min: 1, usual: 16, max: 64 },
  calls: { min: 1, usual: 64, max: 512 },
  calls_per_turn: { min: 1, usual: 8, max: 32 },
  depth: { min: 0, usual: 3, max: 5 },
  wall_ms: { min: 1, usual: 300_000, max: 3_600_000 },
  tokens: { min: 1, usual: 200_000, max: 10_000_000 },
  result_bytes: { min: 1, usual: MIB, max: 64 * MIB },
};

export const RUN_TOOLS_MAX = 128;
/** Of the model's context that the definitions of tools may take which the caller did not choose. */
export const UNCHOSEN_TOOLS_SHARE = 0.5;
export const RUN_LINGER_MS_MAX = 600_000;
/** Runs of this gateway that are running or linger, and of them those of one principal. Each keeps its events. */
export const RUNS_MAX = 256;
export const RUNS_PER_PRINCIPAL_MAX = 64;

/** Events that a run keeps for Attach: the newest, within both bounds. */
export const RUN_EVENTS_MAX = 4096;
export const RUN_EVENTS_BYTES_MAX = 2 * MIB;
/** A run waits for a reader that is behind by more. Far less than what is kept, since several calls may write at once. */
export const RUN_LAG_EVENTS_MAX = 512;
export const RUN_LAG_BYTES_MAX = 512 * KIB;
/** Text of a turn that its reader has not taken; beyond it the engine's deltas are held back. */
export const TURN_PENDING_CHARS_MAX = 64 * KIB;

/** Calls of one turn that are read at all: a tokenizer takes no more in one message (128), and an endless list is no plan. */
export const TURN_CALLS_MAX = 64;
/** The engine hears of the deadline a little late, so that the run's own clock says why it ends. */
export const TURN_DEADLINE_SLACK_MS = 250;

/** Task text that a model may give to a nested run. */
export const NESTED_TASK_CHARS_MAX = 16 * KIB;
/** Arguments of one call, as in tools.proto. */
export const CALL_ARGUMENTS_BYTES_MAX = 256 * KIB;
export const CALL_ARGUMENTS_DEPTH_MAX = 64;
/** A piece of a tool's output in one event, as in agent.proto. */
export const CALL_OUTPUT_BYTES_MAX = 64 * KIB;
export const CALL_TIMEOUT_MS_MAX = 3_600_000;
export const TOOL_NAME_CHARS_MAX = 64;
/** Longest text that a denial hands to the model, as in tools.proto. */
export const DENIAL_CHARS_MAX = 1024;

export const PLAN_STEPS_MAX = 64;
/** A plan that is refused goes back to the model; it gets this many tries in all. */
export const PLAN_TRIES_MAX = 3;
export const PLAN_TEXT_BYTES_MAX = 256 * KIB;
/** One attempt and at most three retries; without a word of the plan, one retry. */
export const STEP_ATTEMPTS_MAX = 4;
export const STEP_ATTEMPTS_USUAL = 2;
/** Wait before the first retry; it doubles. */
export const STEP_RETRY_MS = 100;

/** A sealed context is no use after its run; this bounds it where the run's end is not known. */
export const NESTED_CONTEXT_MS_MAX = 3_600_000;
export const NESTED_CONTEXT_CHARS_MAX = 4096;

/**
 * Times that a call's stream is taken up again after the connection to the tool service broke, and the wait before the first; it
 * doubles, so that a service which starts anew (it tests its sandbox first) is found again within about six seconds.
 */
export const TOOL_RECONNECTS_MAX = 6;
export const TOOL_RECONNECT_MS = 100;
export const TOOL_UNARY_TIMEOUT_MS = 10_000;
/** A workspace in which a cancelled call still ends is asked for again; beyond that the service removes it by itself, later. */
export const END_SESSION_ATTEMPTS_MAX = 5;
export const END_SESSION_RETRY_MS = 250;
/** The service ends a call at its time and says so; the call's own deadline comes only when it does not. */
export const TOOL_DEADLINE_SLACK_MS = 2_000;

assert(
  RUN_LAG_EVENTS_MAX * 2 < RUN_EVENTS_MAX && RUN_LAG_BYTES_MAX * 2 < RUN_EVENTS_BYTES_MAX,
  'a reader that keeps up loses nothing',
);
assert(RUNS_PER_PRINCIPAL_MAX < RUNS_MAX, 'one caller cannot take all runs');
assert(RUN_LIMITS.calls_per_turn.max <= TURN_CALLS_MAX, 'all calls that may run are read');
assert(STEP_ATTEMPTS_USUAL <= STEP_ATTEMPTS_MAX, 'the usual number of attempts is allowed');
