// A run between a scripted model and scripted tools, with nothing of the network.
import assert from 'node:assert/strict';
import type { RunEnded, RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import {
  Decision,
  type ExecuteRequest,
  type ExecuteResponse,
  Outcome,
  Result,
  Tool,
  ToolKind,
} from '#gen/quern/tools/v1/tools.ts';
import type { QuernError } from '#kit/errors.ts';
import { localPrincipal, type Principal } from '#kit/principal.ts';
import { noSpans, type SpanSink, startTrace } from '#kit/trace.ts';
import { AgentRun, type AgentRunOptions } from '../../../../services/gateway/agent/agent-run.ts';
import { textMessage } from '../../../../services/gateway/agent/messages.ts';
import { offeredTools } from '../../../../services/gateway/agent/offered-tools.ts';
import { RunBudget, type RunLimits, resolveLimits } from '../../../../services/gateway/agent/run-budget.ts';
import type { ToolService, Turn, TurnEvent, TurnRequest } from '../../../../services/gateway/agent/seams.ts';

const EMPTY = new Uint8Array(0);

export type Said =
  | string
  | {
      text?: string;
      calls?: { name: string; args: object | string }[];
      hang?: boolean;
      error?: QuernError;
      reason?: 'length';
    };

export type ScriptedTurn = { turn: Turn; requests: TurnRequest[] };

const forever = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

/** A model that says what `script` answers for each turn. 10 prompt and 5 completion tokens each. */
export function scriptedTurn(script: (request: TurnRequest) => Said): ScriptedTurn {
  const requests: TurnRequest[] = [];
  async function* turn(request: TurnRequest, { signal }: { signal: AbortSignal }): AsyncGenerator<TurnEvent> {
    requests.push({ ...request, messages: [...request.messages] });
    const given = script(request);
    const said = typeof given === 'string' ? { text: given } : given;
    await Promise.resolve();
    if (said.text) yield { kind: 'delta', content: said.text, reasoning: '' };
    if (said.hang) await forever(signal);
    if (said.error) throw said.error;
    for (const { name, args } of said.calls ?? []) {
      yield {
        kind: 'call',
        name,
        argumentsJson: typeof args === 'string' ? args : JSON.stringify(args),
        problem: null,
      };
    }
    const usage = { promptTokens: 10, cachedTokens: 0, completionTokens: 5 };
    yield { kind: 'end', reason: said.reason ?? 'stop', cut: request.tokensMax < 5, usage };
  }
  return { turn, requests };
}

export function tool(name: string, over: Partial<Tool> = {}): Tool {
  return {
    ...Tool.decode(EMPTY),
    name,
    kind: ToolKind.TOOL_KIND_BUILTIN,
    description: `does ${name}`,
    inputSchemaJson: '{"type":"object"}',
    decision: Decision.DECISION_ALLOW,
    annotations: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
    ...over,
  };
}

export const result = (over: Partial<Result> = {}): Result => ({
  ...Result.decode(EMPTY),
  outcome: Outcome.OUTCOME_OK,
  ...over,
});

export type ToolEvent = NonNullable<ExecuteResponse['event']>;
export type Play = (
  request: ExecuteRequest,
  options: { signal: AbortSignal; nestedContext: string },
) => AsyncIterable<ToolEvent> | Promise<Result> | Result;

export type ScriptedTools = ToolService & {
  requests: ExecuteRequest[];
  contexts: string[];
  /** Calls inside, and the most there were. */
  running: number;
  most: number;
  answers: { allow: boolean; approvalId: string; user: string; reason: string; unattended?: boolean }[];
  onAnswer: (allow: boolean) => void;
};

const isStream = (played: unknown): played is AsyncIterable<ToolEvent> =>
  typeof played === 'object' && played !== null && Symbol.asyncIterator in played;

export function scriptedTools(tools: readonly Tool[], play: Play): ScriptedTools {
  async function* execute(request: ExecuteRequest, options: { signal: AbortSignal; nestedContext: string }) {
    service.requests.push(request);
    service.contexts.push(options.nestedContext);
    service.running += 1;
    service.most = Math.max(service.most, service.running);
    let sequence = 0n;
    try {
      const played = play(request, options);
      if (isStream(played)) {
        for await (const event of played) {
          sequence += 1n;
          yield { sequence, event };
        }
        return;
      }
      const value = await Promise.race([Promise.resolve(played), forever(options.signal)]);
      yield { sequence: 1n, event: { $case: 'result' as const, value } };
    } finally {
      service.running -= 1;
    }
  }
  const service: ScriptedTools = {
    requests: [],
    contexts: [],
    running: 0,
    most: 0,
    answers: [],
    onAnswer: () => {},
    list: async () => tools,
    execute,
    approve: async ({ approvalId, caller }) => {
      service.answers.push({ allow: true, approvalId, user: caller?.user ?? '', reason: '' });
      service.onAnswer(true);
    },
    deny: async ({ approvalId, caller, reason, unattended }) => {
      const given = { allow: false, approvalId, user: caller?.user ?? '', reason };
      service.answers.push({ ...given, ...(unattended && { unattended }) });
      service.onAnswer(false);
    },
    endSession: async () => true,
  };
  return service;
}

export type RunInput = {
  turn: ScriptedTurn;
  tools: ScriptedTools;
  offered?: readonly Tool[];
  limits?: Partial<RunLimits>;
  over?: Partial<AgentRunOptions>;
  spans?: SpanSink;
  principal?: Principal;
};

let instances = 0;

export async function makeRun({
  turn,
  tools,
  limits,
  over,
  spans,
  principal = localPrincipal,
}: RunInput): Promise<AgentRun> {
  const budget = new RunBudget({ ...resolveLimits(undefined).limits, ...limits });
  instances += 1;
  const trace = startTrace();
  const listed = await tools.list({ caller: undefined }, { signal: new AbortController().signal, trace });
  return new AgentRun({
    runId: 'run-1',
    instance: `instance-${instances}`,
    principal,
    model: 'mock',
    messages: [textMessage(Role.ROLE_USER, 'do it')],
    tools: offeredTools(listed, [], { nesting: budget.limits.depth > 0 }),
    plan: false,
    sampling: undefined,
    sessionId: 'session-1',
    budget,
    parentAccount: null,
    depth: 0,
    taint: { readUntrusted: false, hasPrivate: false, canExfiltrate: false },
    wallMs: budget.limits.wall_ms,
    deadlineMs: null,
    lingerMs: 0,
    trace,
    turn: turn.turn,
    toolService: tools,
    spans: spans ?? noSpans,
    watch: { turn: () => () => {}, call: () => () => {} },
    sealingKey: Buffer.alloc(32, 7),
    ...over,
  });
}

/** All events of a run, from its start to its end. `onEvent` may act on one. */
export async function play(run: AgentRun, onEvent: (event: RunResponse) => void = () => {}): Promise<RunResponse[]> {
  const reader = run.read(0);
  run.start(() => {});
  const events: RunResponse[] = [];
  const { signal } = new AbortController();
  for (let event = await reader.next({ signal }); event !== null; event = await reader.next({ signal })) {
    events.push(event);
    onEvent(event);
  }
  reader.close();
  return events;
}

type Case = NonNullable<RunResponse['event']>['$case'];
type Value<K extends Case> = Extract<NonNullable<RunResponse['event']>, { $case: K }>['value'];

export function valuesOf<K extends Case>(events: readonly RunResponse[], kind: K): Value<K>[] {
  return events.flatMap(({ event }) => (event?.$case === kind ? [event.value as Value<K>] : []));
}

/** "started", "turn 0", "call 0.0 f", ...: what happened, without times. */
export function story(events: readonly RunResponse[]): string[] {
  return events.map(({ path, event }) => {
    const at = path === '' ? '' : `[${path}] `;
    switch (event?.$case) {
      case 'turn':
        return `${at}turn ${event.value.turn}`;
      case 'delta':
        return `${at}says ${event.value.content}`;
      case 'call':
        return `${at}call ${event.value.callId} ${event.value.tool}`;
      case 'callEnded':
        return `${at}ended ${event.value.callId} ${event.value.outcome}`;
      case 'step':
        return `${at}step ${event.value.id} ${event.value.state} ${event.value.attempt}`;
      default:
        return `${at}${event?.$case}`;
    }
  });
}

/** A call's result that went well. */
export const ok = (content: string) => result({ content });

/** The end of a run's own level. */
export const done = (events: readonly RunResponse[]): RunEnded => valuesOf(events, 'ended').at(-1) as RunEnded;

/** Each turn's saying in order; the last one again and again. */
export const inTurns = (...said: Said[]) => {
  let turn = 0;
  return scriptedTurn(() => said[Math.min(turn++, said.length - 1)] as Said);
};

type Step = { id: string; tool?: string; arguments?: object; after?: string[]; max_attempts?: number };
/** A model's plan. */
export const planOf = (...steps: Step[]): string =>
  JSON.stringify({ steps: steps.map((step) => ({ tool: 'f', arguments: {}, ...step })) });

/** Numbers without gaps, one end per call, one end per level, nothing behind the last. */
export function checkStory(events: readonly RunResponse[]): void {
  assert.deepEqual(
    events.map(({ sequence }) => Number(sequence)),
    events.map((_, i) => i + 1),
  );
  const made = valuesOf(events, 'call').map(({ callId }) => callId);
  const ended = valuesOf(events, 'callEnded').map(({ callId }) => callId);
  assert.deepEqual(ended.toSorted(), made.toSorted());
  assert.equal(new Set(made).size, made.length);
  const levels = (kind: 'started' | 'ended'): string[] =>
    events.flatMap(({ path, event }) => (event?.$case === kind ? [path] : []));
  assert.deepEqual(levels('ended').toSorted(), levels('started').toSorted());
  assert.equal(events[0]?.event?.$case, 'started');
  assert.equal(events.at(-1)?.event?.$case, 'ended');
  assert.equal(events.at(-1)?.path, '');
}
