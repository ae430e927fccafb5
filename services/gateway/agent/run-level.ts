// One level of a run from its RunStarted to its one RunEnded, whatever happens between them.
import type { RunEnded } from '#gen/quern/gateway/v1/agent.ts';
import { RunOutcome } from '#gen/quern/gateway/v1/agent.ts';
import { toStatusProto } from '#kit/rpc/status.ts';
import { startSpan } from '#kit/trace.ts';
import { AGENT_SPAN, agentSpanAttributes, endAgentSpan } from './agent-spans.ts';
import { runPlan } from './plan-run.ts';
import { limitsMessage } from './run-budget.ts';
import { endOfError, type LevelEnd, outcomeName, type RunLevel, type RunShared } from './run-state.ts';
import { runTurnLoop } from './turn-loop.ts';

/** Never rejects: what ends a run is told by its RunEnded. */
export async function runLevel(shared: RunShared, given: RunLevel): Promise<LevelEnd> {
  const { log, model, runId, budget } = shared;
  const startedNs = process.hrtime.bigint();
  const attributes = agentSpanAttributes({ runId, model, depth: given.depth });
  const span = startSpan(shared.spans, AGENT_SPAN, given.trace, { attributes });
  const level: RunLevel = { ...given, trace: span.context };
  const { path, account } = level;
  const started = { runId, model, limits: limitsMessage(budget.limits), tools: level.tools.names };
  log.emit(path, { $case: 'started', value: started });
  const end = await (level.plan ? runPlan : runTurnLoop)(shared, level).catch((thrown: unknown) =>
    endOfError(thrown, shared, level.answer),
  );
  endAgentSpan(span, outcomeName(end.outcome), account, end.error?.code ?? null);
  const value: RunEnded = {
    outcome: end.outcome,
    answer: end.answer,
    limit: end.limit,
    status: end.outcome === RunOutcome.RUN_OUTCOME_ERROR && end.error ? toStatusProto(end.error) : undefined,
    usage: { ...account.usage },
    turns: account.turns,
    calls: account.calls,
    wallNs: process.hrtime.bigint() - startedNs,
  };
  log.emit(path, { $case: 'ended', value });
  return end;
}
