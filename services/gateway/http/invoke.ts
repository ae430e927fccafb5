// POST /invoke {"query", "tools"} -> {"plan", "results"}: the model plans, the server runs the plan. For scripts.
import { z } from 'zod';
import { AgentMode, type PlanStep, type RunResponse, StepState } from '#gen/quern/gateway/v1/agent.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { RUN_TOOLS_MAX } from '../agent/limits.ts';
import { textMessage } from '../agent/messages.ts';
import type { GatewayContext } from '../context.ts';
import { invalidArgument } from '../typed-request.ts';
import { failureOfRun, readRun, runObject, runRequest, runUsage } from './agent-answer.ts';
import { type Handler, sendJson } from './exchange.ts';
import { failureOf } from './failure.ts';
import { count, samplingOf, sharedFields, sharedRequest } from './sampling-schema.ts';
import { readFields } from './unknown-fields.ts';

const UINT32_MAX = 0xffffffff;

const schema = z.looseObject({
  ...sharedFields,
  query: z.string().min(1),
  tools: z.array(z.string()).max(RUN_TOOLS_MAX).nullish(),
  max_tokens: count(UINT32_MAX, 1).nullish(),
  session_id: z.string().nullish(),
  limits: z
    .strictObject({
      turns: count(UINT32_MAX).optional(),
      calls: count(UINT32_MAX).optional(),
      calls_per_turn: count(UINT32_MAX).optional(),
      depth: count(UINT32_MAX).optional(),
      wall_ms: count(UINT32_MAX).optional(),
      tokens: count(UINT32_MAX).optional(),
      result_bytes: count(UINT32_MAX).optional(),
    })
    .nullish(),
});

type StepResult = {
  id: string;
  tool: string;
  state: 'done' | 'failed' | 'skipped';
  attempts: number;
  outcome: string | null;
  message: string;
  content: string;
  content_cut: boolean;
  exit_code: number | null;
};

const STATES: Partial<Record<StepState, StepResult['state']>> = {
  [StepState.STEP_STATE_DONE]: 'done',
  [StepState.STEP_STATE_FAILED]: 'failed',
  [StepState.STEP_STATE_SKIPPED]: 'skipped',
};

/** Gathers the plan and what came of each step. */
export class PlanResults {
  plan: PlanStep[] = [];
  /** Names of those that the model was shown. */
  tools: readonly string[] = [];
  readonly #results = new Map<string, StepResult>();
  readonly #stepOfCall = new Map<string, string>();

  take({ path, event }: RunResponse): void {
    if (path !== '') return;
    if (event?.$case === 'started') {
      this.tools = event.value.tools;
    } else if (event?.$case === 'plan') {
      this.plan = event.value.steps;
      for (const { id, tool } of this.plan) this.#results.set(id, unstarted(id, tool));
    } else if (event?.$case === 'step') {
      const { id, state, attempt, callId } = event.value;
      const result = this.#results.get(id);
      if (!result) return;
      if (callId !== '') this.#stepOfCall.set(callId, id);
      if (callId !== '') result.attempts = attempt;
      result.state = STATES[state] ?? result.state;
    } else if (event?.$case === 'callEnded') {
      const { callId, outcome, message, content, contentCut, exitCode } = event.value;
      const result = this.#results.get(this.#stepOfCall.get(callId) ?? '');
      if (result)
        Object.assign(result, { outcome, message, content, content_cut: contentCut, exit_code: exitCode ?? null });
    }
  }

  /** In the plan's order. */
  get results(): StepResult[] {
    return [...this.#results.values()];
  }
}

function unstarted(id: string, tool: string): StepResult {
  const nothing = { outcome: null, message: '', content: '', content_cut: false, exit_code: null };
  return { id, tool, state: 'skipped', attempts: 0, ...nothing };
}

function planObject({ id, tool, argumentsJson, after, maxAttempts }: PlanStep) {
  return { id, tool, arguments: JSON.parse(argumentsJson) as unknown, after, max_attempts: maxAttempts };
}

/** A run that fails after its plan answers 200 with what there is, and the error beside it. */
export function invoke(context: GatewayContext): Handler {
  return async (exchange) => {
    const body = readFields(schema, exchange);
    const shared = sharedRequest(body, exchange);
    if (shared.stop.length > 0) {
      throw invalidArgument([{ field: 'stop', description: 'expected none: a run has no stop strings' }]);
    }
    const { requestId } = shared;
    const { priorityClass, priority } = shared;
    const { calls_per_turn: callsPerTurn, wall_ms: wallMs, result_bytes: resultBytes, ...limits } = body.limits ?? {};
    const request = runRequest({
      model: body.model ?? '',
      messages: [textMessage(Role.ROLE_USER, body.query)],
      tools: body.tools ?? [],
      sampling: { ...samplingOf(body), maxTokens: body.max_tokens ?? undefined },
      options: { requestId, priorityClass, priority, supersedeKey: '' },
      mode: AgentMode.AGENT_MODE_PLAN,
      limits: { ...limits, callsPerTurn, wallMs, resultBytes },
      sessionId: body.session_id ?? '',
    });
    const gathered = new PlanResults();
    const ended = await readRun(context, request, exchange, (event) => gathered.take(event));
    const failure = failureOfRun(ended);
    if (failure && gathered.plan.length === 0) throw failure;
    const answer = {
      plan: gathered.plan.map(planObject),
      results: gathered.results,
      answer: ended.answer,
      run: { ...runObject(requestId, ended), tools: gathered.tools },
      usage: runUsage(ended),
      ...(failure && failureOf(failure).body),
    };
    sendJson(exchange.response, answer, { 'x-request-id': requestId });
  };
}
