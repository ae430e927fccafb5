// One step of a plan with its attempts.
import { setTimeout as sleep } from 'node:timers/promises';
import { StepState } from '#gen/quern/gateway/v1/agent.ts';
import { toQuernError } from '#kit/errors.ts';
import { CALL_ARGUMENTS_BYTES_MAX, type LimitName, STEP_RETRY_MS } from './limits.ts';
import type { PlannedStep } from './plan.ts';
import { callIdOf, type RunLevel, type RunShared } from './run-state.ts';
import { withReferences } from './step-references.ts';
import { announceCall, type CallResult, type CallSpec, callFailed, refuseCall, runCall } from './tool-call.ts';

export type StepEnd = {
  step: PlannedStep;
  /** DONE, FAILED or SKIPPED. */
  state: StepState;
  /** Its last attempt; null: it was not called. */
  call: { spec: CallSpec; result: CallResult } | null;
  /** The bound that kept it from being called. */
  limit: LimitName | null;
};

/** `contents`: what the steps gave that it needs. */
type StepInput = { step: PlannedStep; index: number; contents: ReadonlyMap<string, string> };

/** The call did not begin: it may be made again whatever the tool does. */
const NEVER_RAN: ReadonlySet<string> = new Set(['SANDBOX_SETUP_FAILED', 'SANDBOX_UNAVAILABLE', 'NOT_CONFIGURED']);
/** It may go better a second time, and a tool that is idempotent may be called twice. */
const WORTH_ANOTHER: ReadonlySet<string> = new Set([
  'NONZERO_EXIT',
  'TIMEOUT_WALL',
  'TIMEOUT_CPU',
  'OOM',
  'PIDS',
  'KILLED_BY_DRAIN',
  'UNKNOWN',
]);

/**
 * The key of the next attempt; null: there may be none. What never ran keeps its key, so that a call that did begin after all
 * is not made twice. A tool that is idempotent gets a new one: with the old one it would only hear its first result again.
 */
export function nextKey(
  { outcome }: Pick<CallResult, 'outcome'>,
  from: { idempotent: boolean; key: string; attempt: number },
): string | null {
  if (NEVER_RAN.has(outcome)) return from.key;
  if (!from.idempotent || !WORTH_ANOTHER.has(outcome)) return null;
  return `${from.key.split('#')[0]}#${from.attempt + 1}`;
}

/** Runs a step whose needs have ended well. Never rejects. */
export async function runStep(shared: RunShared, level: RunLevel, input: StepInput): Promise<StepEnd> {
  const { step, index } = input;
  try {
    return await runAttempts(shared, level, input);
  } catch (thrown) {
    const callId = callIdOf(level, 0, index);
    const state = StepState.STEP_STATE_FAILED;
    shared.log.emit(level.path, { $case: 'step', value: { id: step.id, state, attempt: 1, callId } });
    const spec = { callId, tool: step.tool, argumentsJson: '{}', problem: null, turn: 0, idempotencyKey: '' };
    const content = '[UNKNOWN: the step could not be run to its end]';
    const result = { outcome: 'UNKNOWN', content, replayed: false, fault: toQuernError(thrown) };
    return { step, state, call: { spec, result }, limit: null };
  }
}

/** The call of a step without its id and key; with a problem where the results that were put in made it too long. */
function filledCall(
  step: PlannedStep,
  contents: ReadonlyMap<string, string>,
): Omit<CallSpec, 'callId' | 'idempotencyKey'> {
  const filled = withReferences(step.arguments, (id) => contents.get(id) ?? '', CALL_ARGUMENTS_BYTES_MAX);
  const { tool } = step;
  if (filled.ok) return { tool, argumentsJson: filled.argumentsJson, problem: null, turn: 0 };
  const problem = `with the results put in, the arguments have ${filled.bytes} bytes; at most ${CALL_ARGUMENTS_BYTES_MAX}`;
  return { tool, argumentsJson: JSON.stringify(step.arguments), problem, turn: 0 };
}

async function runAttempts(shared: RunShared, level: RunLevel, { step, index, contents }: StepInput): Promise<StepEnd> {
  const { log, budget, signal } = shared;
  const { id } = step;
  const firstId = callIdOf(level, 0, index);
  const tell = (state: StepState, attempt: number, callId: string): void =>
    log.emit(level.path, { $case: 'step', value: { id, state, attempt, callId } });
  const called = filledCall(step, contents);
  const idempotent = level.tools.get(step.tool)?.idempotent ?? false;
  let key = `${shared.instance}:${firstId}`;
  let call: StepEnd['call'] = null;
  for (let attempt = 1; ; attempt += 1) {
    const limit = budget.callsLeft === 0 ? 'calls' : budget.resultBytesLeft === 0 ? 'result_bytes' : null;
    if (call === null && (limit !== null || signal.aborted)) {
      tell(StepState.STEP_STATE_SKIPPED, attempt, '');
      return { step, state: StepState.STEP_STATE_SKIPPED, call, limit };
    }
    const callId = attempt === 1 ? firstId : `${firstId}.r${attempt}`;
    const spec: CallSpec = { ...called, callId, idempotencyKey: key };
    tell(StepState.STEP_STATE_RUNNING, attempt, callId);
    announceCall(shared, level, spec);
    const result = await callOnce(shared, level, spec);
    call = { spec, result };
    if (result.outcome === 'OK') {
      tell(StepState.STEP_STATE_DONE, attempt, callId);
      return { step, state: StepState.STEP_STATE_DONE, call, limit: null };
    }
    const next = nextKey(result, { idempotent, key, attempt });
    const isOver = next === null || attempt >= step.maxAttempts || signal.aborted || budget.callsLeft === 0;
    if (!isOver) {
      tell(StepState.STEP_STATE_RETRYING, attempt, callId);
      key = next;
      await sleep(STEP_RETRY_MS * 2 ** (attempt - 1), undefined, { signal }).catch(() => {});
    }
    if (isOver || signal.aborted) {
      tell(StepState.STEP_STATE_FAILED, attempt, callId);
      return { step, state: StepState.STEP_STATE_FAILED, call, limit: null };
    }
  }
}

function callOnce(shared: RunShared, level: RunLevel, spec: CallSpec): Promise<CallResult> {
  if (spec.problem === null) return runCall(shared, level, spec);
  return Promise.resolve(refuseCall(shared, level, spec, callFailed('INVALID_ARGS', spec.problem)));
}
