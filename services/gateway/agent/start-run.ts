// From a request to a run that has begun, whichever door it came through.
import { AgentMode, RunOutcome, type RunRequest } from '#gen/quern/gateway/v1/agent.ts';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Taint } from '#gen/quern/tools/v1/tools.ts';
import type { AuditOutcome } from '#kit/audit/record.ts';
import { QuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import type { Principal } from '#kit/principal.ts';
import { extract, type TraceContext } from '#kit/trace.ts';
import type { GatewayContext } from '../context.ts';
import type { Caller } from '../generation-events.ts';
import type { RequestTimeline } from '../request-timeline.ts';
import { definitionBytes, definitionTokens } from '../tool-share.ts';
import { invalidArgument, REQUEST_ID } from '../typed-request.ts';
import { AgentRun } from './agent-run.ts';
import { type Agents, requireAgents } from './agents.ts';
import { generationTurn } from './generation-turn.ts';
import { UNCHOSEN_TOOLS_SHARE } from './limits.ts';
import { openNested } from './nested-context.ts';
import { fittingTools, type OfferedTools, offeredTools } from './offered-tools.ts';
import { RunBudget, type RunLimits } from './run-budget.ts';
import type { RunReader } from './run-log.ts';
import { checkRunRequest } from './run-request.ts';
import { type LevelEnd, outcomeName, type RunWatch, taintMore } from './run-state.ts';

/** Who asks. `requestId`: for a run that names none; '' = chosen here. `deadlineMs`: from now; null = none. */
export type RunCaller = Caller & { requestId: string; deadlineMs: number | null };

/** A run below another one that a tool of that one started through the API. */
type Nesting = {
  parent: AgentRun | null;
  depth: number;
  limits: RunLimits;
  above: RunBudget | null;
  taint: Taint;
  /** Milliseconds from now that the run above has left; null: there is none. */
  deadlineMs: number | null;
  /** Of the tool call that asks; null: of the caller. */
  trace: TraceContext | null;
};

/** Earlier answers and results are what somebody else wrote, and nobody knows any more what was read for them. */
export function taintOf(messages: readonly ChatMessage[]): Taint {
  const goesOn = messages.some(({ role }) => role === Role.ROLE_TOOL || role === Role.ROLE_ASSISTANT);
  return { readUntrusted: goesOn, hasPrivate: goesOn, canExfiltrate: false };
}

function nestingOf(agents: Agents, request: RunRequest, principal: Principal, limits: RunLimits): Nesting {
  const own = taintOf(request.messages);
  if (request.nestedContext === '')
    return { parent: null, depth: 0, limits, above: null, taint: own, deadlineMs: null, trace: null };
  const given = openNested(agents.sealingKey, request.nestedContext, principal);
  if (given.user !== principal.user) {
    const message = "nested_context: expected one of the caller's own user, got another's; use a key of the run's user";
    throw new QuernError('PERMISSION_DENIED', message, { reason: 'NESTED_CONTEXT_FOREIGN' });
  }
  const parent = agents.runs.byInstance(given.instance);
  if ((!parent && !agents.sharedKey) || parent?.log.closed) {
    const message = 'nested_context: the run that it belongs to has ended; start a run of its own';
    throw new QuernError('PERMISSION_DENIED', message, { reason: 'NESTED_CONTEXT_ENDED' });
  }
  const depth = given.depth + 1;
  if (depth > given.depthMax) {
    const message = `nested_context: runs go ${given.depthMax} levels deep there, and this one would be level ${depth}`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'RUN_TOO_DEEP' });
  }
  const bits = given.taint;
  const sealed = { readUntrusted: (bits & 1) !== 0, hasPrivate: (bits & 2) !== 0, canExfiltrate: (bits & 4) !== 0 };
  const taint = parent?.taint ?? sealed; // one conversation: what either reads, both have read
  taintMore(taint, own);
  const lowered: RunLimits = {
    ...limits,
    depth: Math.min(given.depthMax, depth + limits.depth),
    turns: Math.min(limits.turns, given.turnsLeft),
    calls: Math.min(limits.calls, given.callsLeft),
    tokens: Math.min(limits.tokens, given.tokensLeft),
    result_bytes: Math.min(limits.result_bytes, given.resultBytesLeft),
  };
  const deadlineMs = given.expiresUnixMs - Date.now();
  return {
    parent,
    depth,
    limits: lowered,
    above: parent?.budget ?? null,
    taint,
    deadlineMs,
    trace: extract(given.trace),
  };
}

function watchOf({ metrics }: Agents, timeline: RequestTimeline): RunWatch {
  return {
    turn: (name) => timeline.part(`turn ${name}`),
    call(callId, tool) {
      const startedMs = performance.now();
      const end = timeline.part(`${tool} ${callId}`);
      return (outcome) => {
        end();
        metrics.callEnded({ tool, outcome: outcome.toLowerCase(), seconds: (performance.now() - startedMs) / 1000 });
      };
    },
  };
}

async function listed(
  context: GatewayContext,
  agents: Agents,
  request: RunRequest,
  from: { caller: RunCaller; runId: string; nesting: Nesting },
): Promise<OfferedTools> {
  const { caller, runId, nesting } = from;
  const { tenant, user, keyId } = caller.principal;
  const asker = { tenant, user, keyId, sessionId: sessionOf(request, runId), requestId: runId };
  const tools = await agents.tools.list({ caller: asker }, { signal: caller.signal, trace: caller.trace });
  const offered = offeredTools(tools, request.tools, { nesting: nesting.depth < nesting.limits.depth });
  return request.tools.length > 0 ? offered : fitting(context, request, caller, offered);
}

/** All of them, where the model has the room. */
async function fitting(
  { models, tokenizer }: GatewayContext,
  request: RunRequest,
  { signal, trace }: RunCaller,
  offered: OfferedTools,
): Promise<OfferedTools> {
  const model = models.resolve(request.model);
  const tokensMax = Math.floor((models.description(model)?.contextLength ?? 0) * UNCHOSEN_TOOLS_SHARE);
  const definitions = offered.definitions();
  if (tokensMax === 0 || definitionBytes(definitions) <= tokensMax) return offered; // while no engine is there nobody knows
  const tokens = await definitionTokens(tokenizer, model.name, definitions, { signal, trace });
  return fittingTools(offered, tokens, tokensMax);
}

function sessionOf({ sessionId }: RunRequest, runId: string): string {
  return sessionId === '' ? runId : sessionId;
}

const least = (a: number | null, b: number | null): number | null => (a === null ? b : b === null ? a : Math.min(a, b));

type Started = {
  run: AgentRun;
  timeline: RequestTimeline;
  startedMs: number;
  release: () => void;
  hasOwnSession: boolean;
};

const RECORDED: Partial<Record<RunOutcome, AuditOutcome>> = {
  [RunOutcome.RUN_OUTCOME_ANSWERED]: 'ok',
  [RunOutcome.RUN_OUTCOME_LIMIT]: 'ok',
  [RunOutcome.RUN_OUTCOME_CANCELLED]: 'cancelled',
};

/** Tells audit, metrics and Explain that it has begun and how it ended, and lets go of its id: a new run may have it. */
async function account({ audit, log }: GatewayContext, agents: Agents, started: Started): Promise<void> {
  const { run, timeline, startedMs, release, hasOwnSession } = started;
  const { runId, principal, model, plan, trace } = run.options;
  const recorded = { runId, principal, model, traceId: trace.traceId };
  audit.events.agentStarted(recorded);
  const { outcome, error, limit }: LevelEnd = await run.done;
  release();
  const { turns, calls, usage } = run.account;
  if (hasOwnSession && calls > 0) {
    const failed = (error: unknown) =>
      log.info({ err: error, run_id: runId }, 'the workspace of a run stays for a while');
    void run.endSession().catch(failed);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const name = outcomeName(outcome);
  timeline.finish({ outcome: name.toLowerCase(), error, usage: { ...usage }, timings: undefined });
  agents.metrics.runEnded({ mode: plan ? 'plan' : 'loop', outcome: name.toLowerCase(), seconds, turns });
  audit.events.agentFinished({
    ...recorded,
    outcome: RECORDED[outcome] ?? 'error',
    reason: limit === '' ? name : `${name}_${limit.toUpperCase()}`,
    code: error?.code ?? null,
    usage: {
      turns,
      calls,
      prompt_tokens: usage.promptTokens,
      completion_tokens: usage.completionTokens,
      latency_ms: Math.round(seconds * 1000),
    },
  });
}

/**
 * Starts a run; its first reader comes with it. Throws INVALID_ARGUMENT, FAILED_PRECONDITION without a tool service,
 * PERMISSION_DENIED for a nested context, RESOURCE_EXHAUSTED, ALREADY_EXISTS for an id that runs, what listing the tools throws.
 */
export async function startRun(
  context: GatewayContext,
  request: RunRequest,
  asked: RunCaller,
): Promise<{ run: AgentRun; reader: RunReader }> {
  const agents = requireAgents(context);
  const startedMs = performance.now();
  const { principal } = asked;
  const limits = checkRunRequest(request);
  const runId = request.options?.requestId || asked.requestId || uuidv7();
  if (!REQUEST_ID.test(runId)) {
    throw invalidArgument([{ field: 'options.request_id', description: 'expected 1..128 of [A-Za-z0-9._:-]' }]);
  }
  const nesting = nestingOf(agents, request, principal, limits);
  const trace = nesting.trace ?? asked.trace;
  const deadlineMs = least(asked.deadlineMs, nesting.deadlineMs);
  const caller: RunCaller = { ...asked, trace, deadlineMs };
  const model = context.models.resolve(request.model).name;
  const tools = await listed(context, agents, request, { caller, runId, nesting });
  const running: { run: AgentRun | null } = { run: null };
  const release = context.requests.add(principal, runId, {
    cancel: (reason) => running.run?.cancel(reason),
    abort: (reason) => running.run?.abort(reason),
  });
  let leave: () => void;
  try {
    leave = agents.runs.reserve(principal);
  } catch (error) {
    release();
    throw error;
  }
  const timeline = context.explain.begin(
    { requestId: runId, principal, method: 'agent', traceId: trace.traceId },
    startedMs,
  );
  timeline.model = model;
  const run = new AgentRun({
    runId,
    instance: uuidv7(),
    principal,
    model,
    messages: request.messages,
    tools,
    plan: request.mode === AgentMode.AGENT_MODE_PLAN,
    sampling: request.sampling,
    sessionId: sessionOf(request, runId),
    budget: new RunBudget(nesting.limits, nesting.above),
    parentAccount: nesting.parent?.account ?? null,
    depth: nesting.depth,
    taint: nesting.taint,
    wallMs: nesting.limits.wall_ms,
    deadlineMs,
    lingerMs: request.lingerMs ?? 0,
    trace,
    turn: generationTurn(context, { caller, request, model, runId }),
    toolService: agents.tools,
    spans: context.spans,
    watch: watchOf(agents, timeline),
    sealingKey: agents.sealingKey,
  });
  running.run = run;
  agents.runs.add(run);
  const hasOwnSession = request.sessionId === '';
  void account(context, agents, { run, timeline, startedMs, release, hasOwnSession });
  const reader = run.read(0);
  followParent(nesting.parent, run);
  run.start(() => {
    agents.runs.delete(run);
    leave();
  });
  return { run, reader };
}

/** What ends the run above ends this one. */
function followParent(parent: AgentRun | null, run: AgentRun): void {
  if (!parent) return;
  const stop = (): void => run.abort(parent.signal.reason as QuernError);
  if (parent.signal.aborted) stop();
  parent.signal.addEventListener('abort', stop, { once: true });
  void run.done.then(() => parent.signal.removeEventListener('abort', stop));
  void parent.done.then(() => run.abort(new QuernError('CANCELLED', 'the run above has ended')));
}
