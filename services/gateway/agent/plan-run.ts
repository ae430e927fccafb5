// Plan mode: the model plans, the plan is checked and run as a graph, and the model sums up what came of it.
import { RunOutcome, StepState } from '#gen/quern/gateway/v1/agent.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { QuernError } from '#kit/errors.ts';
import { type LimitName, PLAN_TRIES_MAX } from './limits.ts';
import { assistantMessage, resultMessage, textMessage } from './messages.ts';
import { type PlannedStep, planMessages, planStepMessage, readPlan, refusalMessage } from './plan.ts';
import { runStep, type StepEnd } from './plan-step.ts';
import { endOfLimit, type LevelEnd, type RunLevel, type RunShared } from './run-state.ts';
import { takeTurn } from './turn-loop.ts';

type Planned = { kind: 'plan'; steps: PlannedStep[]; turns: number } | { kind: 'end'; end: LevelEnd };

/** Asks for a plan until one is valid, or the tries are used. */
async function makePlan(shared: RunShared, level: RunLevel): Promise<Planned> {
  const messages = planMessages(level.messages, level.tools);
  const describedTools = level.tools.definitions();
  for (let turn = 0; turn < PLAN_TRIES_MAX; turn += 1) {
    const limit = shared.budget.takeTurn();
    if (limit !== null) return { kind: 'end', end: endOfLimit(limit, level.answer) };
    const said = await takeTurn(shared, level, { turn, messages, tools: [], describedTools });
    if (said.cut) return { kind: 'end', end: endOfLimit('tokens', said.content) };
    const read = readPlan(said.content, level.tools);
    if (read.ok) return { kind: 'plan', steps: read.steps, turns: turn + 1 };
    messages.push(assistantMessage(said, []), refusalMessage(read.reason));
  }
  const end = { outcome: RunOutcome.RUN_OUTCOME_PLAN_INVALID, answer: level.answer, limit: '', error: null } as const;
  return { kind: 'end', end };
}

/** So many may be inside at once; the others wait in their order. */
function createGate(room: number): <T>(run: () => Promise<T>) => Promise<T> {
  let free = room;
  const waiting: (() => void)[] = [];
  return async (run) => {
    if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
    else free -= 1;
    try {
      return await run();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    }
  };
}

/** Each step as soon as those it needs have ended well; calls_per_turn of them at once. In the plan's order. */
function runSteps(shared: RunShared, level: RunLevel, steps: readonly PlannedStep[]): Promise<StepEnd[]> {
  const gate = createGate(shared.budget.limits.calls_per_turn);
  const ends = new Map<string, Promise<StepEnd>>();
  for (const [index, step] of steps.entries()) {
    const needed = step.after.map((id) => ends.get(id) as Promise<StepEnd>);
    const run = async (): Promise<StepEnd> => {
      const before = await Promise.all(needed);
      if (before.every(({ state }) => state === StepState.STEP_STATE_DONE)) {
        return gate(() => runStep(shared, level, { step, index, contents: contentsOf(before) }));
      }
      const state = StepState.STEP_STATE_SKIPPED;
      shared.log.emit(level.path, { $case: 'step', value: { id: step.id, state, attempt: 1, callId: '' } });
      return { step, state, call: null, limit: null };
    };
    ends.set(step.id, run());
  }
  return Promise.all(ends.values());
}

function contentsOf(ends: readonly StepEnd[]): ReadonlyMap<string, string> {
  return new Map(ends.map(({ step, call }) => [step.id, call?.result.content ?? '']));
}

/** The model's answer from what the steps gave. It may not call: the plan was all. */
async function sumUp(shared: RunShared, level: RunLevel, ends: readonly StepEnd[], turn: number): Promise<LevelEnd> {
  const spent = shared.budget.takeTurn();
  if (spent !== null) return endOfLimit(spent, '');
  const calls = ends.flatMap(({ call }) => (call === null ? [] : [call]));
  const skipped = ends.filter(({ call }) => call === null).map(({ step }) => step.id);
  const missing = skipped.length > 0 ? ` These steps did not run: ${skipped.join(', ')}.` : '';
  const order = `The plan has run; its results are above.${missing} Answer my request from them, and say what is missing.`;
  const said = await takeTurn(shared, level, {
    turn,
    messages: [
      ...level.messages,
      ...(calls.length > 0
        ? [
            assistantMessage(
              { content: '', reasoning: '' },
              calls.map(({ spec }) => spec),
            ),
          ]
        : []),
      ...calls.map(({ spec, result }) => resultMessage(spec, result)),
      textMessage(Role.ROLE_USER, order),
    ],
    tools: [],
  });
  if (said.cut) return endOfLimit('tokens', said.content);
  if (said.unfinished) return endOfLimit('max_tokens', said.content);
  const limit = ends.find((end) => end.limit !== null)?.limit ?? null;
  if (limit !== null) return endOfLimit(limit satisfies LimitName, said.content);
  return { outcome: RunOutcome.RUN_OUTCOME_ANSWERED, answer: said.content, limit: '', error: null };
}

/** A tool service that nobody could reach leaves nothing to sum up. */
function faultOf(ends: readonly StepEnd[]): QuernError | null {
  if (ends.some(({ state }) => state === StepState.STEP_STATE_DONE)) return null;
  return ends.find(({ call }) => call?.result.fault)?.call?.result.fault ?? null;
}

/** Throws what ended it otherwise than by an answer, a bound or a plan that never was valid. */
export async function runPlan(shared: RunShared, level: RunLevel): Promise<LevelEnd> {
  const planned = await makePlan(shared, level);
  if (planned.kind === 'end') return planned.end;
  const { steps, turns } = planned;
  shared.log.emit(level.path, { $case: 'plan', value: { steps: steps.map(planStepMessage) } });
  const ends = await runSteps(shared, level, steps);
  level.answer = ''; // the plan's text is no answer
  shared.signal.throwIfAborted();
  const fault = faultOf(ends);
  if (fault) throw fault;
  return sumUp(shared, level, ends, turns);
}
