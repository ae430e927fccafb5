// What the two HTTP ways into an agent run share: starting it, reading it to its end, its usage and its failure.
import type { RunEnded, RunRequest, RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { AgentMode, RunOutcome } from '#gen/quern/gateway/v1/agent.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { fromStatusProto } from '#kit/rpc/status.ts';
import { outcomeName } from '../agent/run-state.ts';
import { startRun } from '../agent/start-run.ts';
import type { GatewayContext } from '../context.ts';
import { callerOf, type Exchange, requestTimeoutMs } from './exchange.ts';
import { usageObject } from './openai-objects.ts';

/** A run's request with nothing set that HTTP has no field for. */
export function runRequest(over: Partial<RunRequest>): RunRequest {
  return {
    model: '',
    messages: [],
    tools: [],
    sampling: undefined,
    options: undefined,
    mode: AgentMode.AGENT_MODE_LOOP,
    limits: undefined,
    sessionId: '',
    nestedContext: '',
    ...over,
  };
}

/** Runs it to its end; a client that goes away ends it. Throws what refuses it. */
export async function readRun(
  context: GatewayContext,
  request: RunRequest,
  exchange: Exchange,
  onEvent: (event: RunResponse) => Promise<void> | void,
): Promise<RunEnded> {
  const { signal, request: message, requestId } = exchange;
  const caller = { ...callerOf(exchange), requestId, deadlineMs: requestTimeoutMs(message) };
  const { reader } = await startRun(context, request, caller);
  let ended: RunEnded | null = null;
  try {
    for (let event = await reader.next({ signal }); event !== null; event = await reader.next({ signal })) {
      if (event.path === '' && event.event?.$case === 'ended') ended = event.event.value;
      await onEvent(event);
    }
    reader.close();
  } catch (thrown) {
    reader.close(toQuernError(thrown));
    throw thrown;
  }
  if (!ended) throw new QuernError('INTERNAL', 'a run ended without an end');
  return ended;
}

/** What went wrong with a run that gave no answer; null: it did, or was ended by a bound. */
export function failureOfRun({ outcome, status, limit }: RunEnded): QuernError | null {
  switch (outcome) {
    case RunOutcome.RUN_OUTCOME_ERROR:
      return status ? fromStatusProto(status) : new QuernError('INTERNAL', 'the run failed');
    case RunOutcome.RUN_OUTCOME_DEADLINE: {
      const what = limit === 'wall_ms' ? "the run's wall time" : "the request's time limit";
      return new QuernError('DEADLINE_EXCEEDED', `${what} passed`, { reason: 'RUN_DEADLINE' });
    }
    case RunOutcome.RUN_OUTCOME_CANCELLED:
      return new QuernError('CANCELLED', 'the run was cancelled', { reason: 'RUN_CANCELLED' });
    default:
      return null;
  }
}

/** How a run ended, beside its text. */
export function runObject(runId: string, { outcome, limit, turns, calls }: RunEnded) {
  return { id: runId, outcome: outcomeName(outcome).toLowerCase(), limit: limit === '' ? null : limit, turns, calls };
}

export function runUsage({ usage }: RunEnded) {
  return usageObject([usage]);
}
