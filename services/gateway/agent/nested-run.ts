// The tool "agent": a run below the run that called it, out of the same budget, with the same deadline, tenant, trace and cancel.
import { RunOutcome } from '#gen/quern/gateway/v1/agent.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { TraceContext } from '#kit/trace.ts';
import { NESTED_TASK_CHARS_MAX, RUN_TOOLS_MAX } from './limits.ts';
import { textMessage } from './messages.ts';
import { RunAccount } from './run-budget.ts';
import type { LevelEnd, RunLevel, RunShared } from './run-state.ts';
import type { CallEnding, CallSpec } from './tool-call.ts';

type Task = { ok: true; task: string; tools: string[] | null } | { ok: false; reason: string };

function readTask(argumentsJson: string): Task {
  const { task, tools = null, ...rest } = JSON.parse(argumentsJson) as { task?: unknown; tools?: unknown };
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined)
    return { ok: false, reason: `unknown argument "${unknown.slice(0, 64)}"; expected task and tools` };
  if (typeof task !== 'string' || task === '' || task.length > NESTED_TASK_CHARS_MAX) {
    return { ok: false, reason: `task: expected a text of 1..${NESTED_TASK_CHARS_MAX} characters` };
  }
  if (tools === null) return { ok: true, task, tools: null };
  const isNames =
    Array.isArray(tools) && tools.length <= RUN_TOOLS_MAX && tools.every((name) => typeof name === 'string');
  return isNames
    ? { ok: true, task, tools: tools as string[] }
    : { ok: false, reason: `tools: expected an array of at most ${RUN_TOOLS_MAX} names` };
}

function endingOf({ outcome, answer, limit, error }: LevelEnd): CallEnding {
  switch (outcome) {
    case RunOutcome.RUN_OUTCOME_ANSWERED:
      return { outcome: 'OK', message: '', content: answer };
    case RunOutcome.RUN_OUTCOME_LIMIT:
      return { outcome: 'DENIED_POLICY', message: `the limit "${limit}" of the run was reached`, content: answer };
    case RunOutcome.RUN_OUTCOME_CANCELLED:
      return { outcome: 'CANCELLED', message: 'the nested run was cancelled', content: answer };
    case RunOutcome.RUN_OUTCOME_DEADLINE:
      return { outcome: 'DEADLINE', message: 'the time of the run is over', content: answer };
    default:
      return { outcome: 'UNKNOWN', message: error?.message ?? 'the nested run failed', content: answer, fault: error };
  }
}

/** Runs the task of a call whose arguments are an object. The nested run's path is the call's id. */
export async function runNested(
  shared: RunShared,
  level: RunLevel,
  { callId, argumentsJson, trace }: CallSpec & { trace: TraceContext },
): Promise<CallEnding> {
  const { depth: depthMax } = shared.budget.limits;
  const depth = level.depth + 1;
  if (depth > depthMax) {
    const message = `nested runs go ${depthMax} levels deep here; do this part yourself`;
    return { outcome: 'DENIED_POLICY', message, content: '' };
  }
  const read = readTask(argumentsJson);
  if (!read.ok) return { outcome: 'INVALID_ARGS', message: read.reason, content: '' };
  const unknown = read.tools?.find((name) => level.tools.get(name) === null);
  if (unknown !== undefined) {
    const message = `tools: no tool "${unknown.slice(0, 64)}" here; expected some of ${level.tools.names.join(', ')}`;
    return { outcome: 'INVALID_ARGS', message, content: '' };
  }
  const end = await shared.runLevel({
    path: callId,
    depth,
    plan: false,
    messages: [textMessage(Role.ROLE_USER, read.task)],
    tools: level.tools.narrowed(read.tools, depth < depthMax),
    account: new RunAccount(level.account),
    trace,
    answer: '',
  });
  return endingOf(end);
}
