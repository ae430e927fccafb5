// What all levels of one run share, and what one level of it is.
import type { SamplingParams, Usage } from '#gen/quern/common/v1/common.ts';
import { RunOutcome } from '#gen/quern/gateway/v1/agent.ts';
import type { ChatMessage } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Caller, Taint } from '#gen/quern/tools/v1/tools.ts';
import { type QuernError, toQuernError } from '#kit/errors.ts';
import { addTaint, NO_TAINT } from '#kit/taint.ts';
import type { SpanSink, TraceContext } from '#kit/trace.ts';
import type { LimitName } from './limits.ts';
import type { OfferedTools } from './offered-tools.ts';
import type { PendingApprovals } from './pending-approvals.ts';
import type { RunAccount, RunBudget } from './run-budget.ts';
import type { RunLog } from './run-log.ts';
import type { ToolService, Turn } from './seams.ts';

/** Who watches a run: metrics, Explain. Each call answers what is to be called at its end. */
export type RunWatch = {
  turn(name: string): () => void;
  call(callId: string, tool: string): (outcome: string) => void;
};

export type RunShared = {
  readonly runId: string;
  /** Unique in the tenant, unlike the run id, which a caller may use again: calls at the tool service are named by it. */
  readonly instance: string;
  readonly model: string;
  readonly caller: Caller;
  readonly sampling: SamplingParams | undefined;
  readonly budget: RunBudget;
  readonly log: RunLog;
  readonly approvals: PendingApprovals;
  /** Of the whole conversation; only ever more. */
  readonly taint: Taint;
  readonly turn: Turn;
  readonly tools: ToolService;
  readonly spans: SpanSink;
  readonly watch: RunWatch;
  /** Cancel, deadline and lost readers in one. Its reason is a QuernError. */
  readonly signal: AbortSignal;
  /** When it must have ended, on performance.now()'s clock. */
  readonly deadlineMs: number;
  /** For a tool that starts runs itself. `trace`: of its call. */
  seal(level: RunLevel, trace: TraceContext): string;
  /** Runs a level to its end. Never rejects. */
  runLevel(level: RunLevel): Promise<LevelEnd>;
};

/** One run: the outer one, or one that a call of the tool "agent" started. */
export type RunLevel = {
  /** "" = the run itself; else the id of the call that started it. */
  readonly path: string;
  /** 0 = the run itself. */
  readonly depth: number;
  readonly plan: boolean;
  readonly messages: readonly ChatMessage[];
  readonly tools: OfferedTools;
  readonly account: RunAccount;
  /** What its spans lie below. */
  readonly trace: TraceContext;
  /** The last turn's content so far. */
  answer: string;
};

export type LevelEnd = {
  outcome: RunOutcome;
  answer: string;
  /** The bound that ended it; '' = none. */
  limit: LimitName | 'max_tokens' | '';
  error: QuernError | null;
};

export const WALL_REASON = 'RUN_WALL_TIME';

/** Of a run and all below it: one conversation, so that it is one object for all of them. */
export function taintMore(taint: Taint, more: Taint | undefined): void {
  Object.assign(taint, addTaint(taint, more ?? NO_TAINT));
}

/** "1.0": the second turn's first call of the run itself; below it "1.0.0.2", and so on. */
export function callIdOf(level: RunLevel, turn: number, index: number): string {
  return `${level.path === '' ? '' : `${level.path}.`}${turn}.${index}`;
}

/** How a run ends that something threw out of. */
export function endOfError(thrown: unknown, shared: Pick<RunShared, 'signal'>, answer: string): LevelEnd {
  const error = toQuernError(shared.signal.aborted ? shared.signal.reason : thrown);
  if (error.code === 'CANCELLED') return { outcome: RunOutcome.RUN_OUTCOME_CANCELLED, answer, limit: '', error: null };
  if (error.code === 'DEADLINE_EXCEEDED') {
    const limit = error.details.reason === WALL_REASON ? 'wall_ms' : '';
    return { outcome: RunOutcome.RUN_OUTCOME_DEADLINE, answer, limit, error: null };
  }
  return { outcome: RunOutcome.RUN_OUTCOME_ERROR, answer, limit: '', error };
}

export function endOfLimit(limit: LimitName | 'max_tokens', answer: string): LevelEnd {
  return { outcome: RunOutcome.RUN_OUTCOME_LIMIT, answer, limit, error: null };
}

const NAMES = new Map<number, string>(
  Object.entries(RunOutcome).map(([name, value]) => [value, name.replace('RUN_OUTCOME_', '')]),
);

/** "ANSWERED", "LIMIT", ... */
export function outcomeName(outcome: RunOutcome): string {
  return NAMES.get(outcome) ?? 'UNSPECIFIED';
}

export const NO_USAGE: Readonly<Usage> = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 };
