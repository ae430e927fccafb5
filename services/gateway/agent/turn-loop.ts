// The loop of a run: the model answers, its calls run side by side, their results go back to it in the order of the calls.

import { RunOutcome } from '#gen/quern/gateway/v1/agent.ts';
import type { ChatMessage, ToolDefinition } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { TURN_CALLS_MAX } from './limits.ts';
import { assistantMessage, resultMessage } from './messages.ts';
import type { TokenReserve } from './run-budget.ts';
import { callIdOf, endOfLimit, type LevelEnd, type RunLevel, type RunShared } from './run-state.ts';
import type { TurnEvent, TurnRequest } from './seams.ts';
import { announceCall, type CallResult, type CallSpec, callFailed, refuseCall, runCall } from './tool-call.ts';

export type Said = {
  content: string;
  reasoning: string;
  calls: Extract<TurnEvent, { kind: 'call' }>[];
  /** Calls that were too many to be read. */
  unread: number;
  /** The run's tokens ended it. */
  cut: boolean;
  /** max_tokens or the model's context ended it: what it says is not all that it had to say. */
  unfinished: boolean;
};

type TurnInput = {
  turn: number;
  messages: readonly ChatMessage[];
  tools: readonly ToolDefinition[];
  /** As in TurnRequest; absent = none. */
  describedTools?: readonly ToolDefinition[];
};

/** Lets the model answer once and shows it. The turn must have been taken from the budget. Throws what failed it. */
export async function takeTurn(
  shared: RunShared,
  level: RunLevel,
  { turn, messages, tools, describedTools = [] }: TurnInput,
): Promise<Said> {
  const { log, signal, budget } = shared;
  const name = `${level.path === '' ? '' : `${level.path}.`}${turn}`;
  log.emit(level.path, { $case: 'turn', value: { turn } });
  level.account.countTurn();
  level.answer = '';
  const ended = shared.watch.turn(name);
  const said: Said = { content: '', reasoning: '', calls: [], unread: 0, cut: false, unfinished: false };
  let end: Extract<TurnEvent, { kind: 'end' }>;
  let reserve: TokenReserve | null = null;
  try {
    reserve = await budget.reserveTokens({ signal });
    if (reserve.tokens === 0) return { ...said, cut: true };
    const leftMs = Math.max(1, Math.ceil(shared.deadlineMs - performance.now()));
    const request = {
      name,
      messages,
      tools,
      describedTools,
      sampling: shared.sampling,
      tokensMax: reserve.tokens,
      leftMs,
    };
    end = await readTurn(shared, level, said, request);
    budget.spendTokens(end.usage);
  } finally {
    reserve?.giveBack();
    ended();
  }
  level.account.countTokens(end.usage);
  if (end.reason === 'cancelled') throw new QuernError('CANCELLED', 'the turn was cancelled');
  return { ...said, cut: end.cut, unfinished: end.reason === 'length' };
}

async function readTurn(
  { log, signal, turn }: RunShared,
  level: RunLevel,
  said: Said,
  request: TurnRequest,
): Promise<Extract<TurnEvent, { kind: 'end' }>> {
  let end: Extract<TurnEvent, { kind: 'end' }> | null = null;
  for await (const event of turn(request, { signal, trace: level.trace })) {
    if (event.kind === 'delta') {
      said.content += event.content;
      said.reasoning += event.reasoning;
      level.answer = said.content;
      log.emit(level.path, { $case: 'delta', value: { content: event.content, reasoning: event.reasoning } });
      await log.ready({ signal });
    } else if (event.kind === 'call') {
      if (said.calls.length < TURN_CALLS_MAX) said.calls.push(event);
      else said.unread += 1;
    } else end = event;
  }
  if (!end) throw new QuernError('INTERNAL', 'a turn ended without an end');
  return end;
}

/** The calls of a turn, side by side; results in their order. What is over calls_per_turn is not run and says so. */
async function runCalls(
  shared: RunShared,
  level: RunLevel,
  specs: readonly CallSpec[],
  unread: number,
): Promise<CallResult[]> {
  const { calls_per_turn: most } = shared.budget.limits;
  for (const spec of specs) announceCall(shared, level, spec);
  return Promise.all(
    specs.map((spec, i) => {
      if (i < most) return runCall(shared, level, spec);
      const more = unread > 0 && i === specs.length - 1 ? `, and the ${unread} behind it,` : '';
      const message = `at most ${most} calls in one turn; make this one${more} in the next`;
      return refuseCall(shared, level, spec, callFailed('DENIED_POLICY', message));
    }),
  );
}

/** Runs a level until the model makes no more calls, or a bound is reached. Throws what ended it otherwise. */
export async function runTurnLoop(shared: RunShared, level: RunLevel): Promise<LevelEnd> {
  const messages = [...level.messages];
  const tools = level.tools.definitions();
  for (let turn = 0; ; turn += 1) {
    const limit = shared.budget.takeTurn();
    if (limit !== null) return endOfLimit(limit, level.answer);
    const said = await takeTurn(shared, level, { turn, messages, tools });
    if (said.cut) return endOfLimit('tokens', said.content);
    if (said.calls.length === 0) {
      if (said.unfinished) return endOfLimit('max_tokens', said.content);
      return { outcome: RunOutcome.RUN_OUTCOME_ANSWERED, answer: said.content, limit: '', error: null };
    }
    if (shared.budget.callsLeft === 0) return endOfLimit('calls', said.content);
    if (shared.budget.resultBytesLeft === 0) return endOfLimit('result_bytes', said.content);
    const specs = said.calls.map(({ name, argumentsJson, problem }, i): CallSpec => {
      const callId = callIdOf(level, turn, i);
      return { callId, tool: name, argumentsJson, problem, turn, idempotencyKey: `${shared.instance}:${callId}` };
    });
    const results = await runCalls(shared, level, specs, said.unread);
    shared.signal.throwIfAborted();
    const fault = results.find((result) => result.fault !== null)?.fault;
    if (fault) throw fault;
    messages.push(
      assistantMessage(said, specs),
      ...specs.map((spec, i) => resultMessage(spec, results[i] as CallResult)),
    );
  }
}
