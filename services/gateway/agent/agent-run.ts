// One run with its life: it ends by itself, by Cancel, by its deadline, or when nobody has read it for its linger time; and it
// can be read and answered for while it is there.
import { setTimeout as sleep } from 'node:timers/promises';
import type { SamplingParams } from '#gen/quern/common/v1/common.ts';
import type { RunEnded } from '#gen/quern/gateway/v1/agent.ts';
import type { ChatMessage } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Caller, Taint } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import { type Principal, principalKey } from '#kit/principal.ts';
import { inject, type SpanSink, type TraceContext } from '#kit/trace.ts';
import { END_SESSION_ATTEMPTS_MAX, END_SESSION_RETRY_MS, NESTED_CONTEXT_MS_MAX } from './limits.ts';
import { type NestedContext, sealNested } from './nested-context.ts';
import type { OfferedTools } from './offered-tools.ts';
import { checkApprover, PendingApprovals } from './pending-approvals.ts';
import { RunAccount, type RunBudget } from './run-budget.ts';
import { runLevel } from './run-level.ts';
import { RunLog, type RunReader } from './run-log.ts';
import { type LevelEnd, type RunLevel, type RunShared, type RunWatch, WALL_REASON } from './run-state.ts';
import type { ToolService, Turn } from './seams.ts';

/** The run's own signal may have ended it. */
const NEVER = new AbortController().signal;

export type AgentRunOptions = {
  runId: string;
  instance: string;
  principal: Principal;
  model: string;
  messages: readonly ChatMessage[];
  tools: OfferedTools;
  plan: boolean;
  sampling: SamplingParams | undefined;
  sessionId: string;
  budget: RunBudget;
  /** Of the run whose tool started this one; null: nobody's. */
  parentAccount: RunAccount | null;
  depth: number;
  taint: Taint;
  /** Milliseconds from now: the wall time, and what the caller's deadline leaves (null: it has none). */
  wallMs: number;
  deadlineMs: number | null;
  lingerMs: number;
  /** The span of the call that asked. */
  trace: TraceContext;
  turn: Turn;
  toolService: ToolService;
  spans: SpanSink;
  watch: RunWatch;
  sealingKey: Uint8Array;
};

export class AgentRun {
  readonly log = new RunLog();
  /** Resolves with how it ended. Never rejects. */
  readonly done: Promise<LevelEnd>;
  readonly options: AgentRunOptions;
  readonly account: RunAccount;
  readonly #stop = new AbortController();
  readonly #approvals = new PendingApprovals();
  readonly #resolveDone: (end: LevelEnd) => void;
  readonly #timers: NodeJS.Timeout[] = [];
  #linger: NodeJS.Timeout | null = null;
  #onGone: () => void = () => {};
  #isGone = false;

  constructor(options: AgentRunOptions) {
    this.options = options;
    this.account = new RunAccount(options.parentAccount);
    const { promise, resolve } = Promise.withResolvers<LevelEnd>();
    this.done = promise;
    this.#resolveDone = resolve;
    this.log.onReaders = (count, reason) => this.#onReaders(count, reason);
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  get budget(): RunBudget {
    return this.options.budget;
  }

  get taint(): Taint {
    return this.options.taint;
  }

  /** Begins. `onGone` is called once, when nobody can attach any more. */
  start(onGone: () => void): void {
    this.#onGone = onGone;
    const { wallMs, deadlineMs } = this.options;
    const endAfter = (ms: number, error: QuernError): void => {
      const timer = setTimeout(() => this.abort(error), ms);
      this.#timers.push(timer);
    };
    endAfter(
      wallMs,
      new QuernError('DEADLINE_EXCEEDED', `the run's wall time of ${wallMs} ms is over`, { reason: WALL_REASON }),
    );
    if (deadlineMs !== null) {
      endAfter(Math.max(0, deadlineMs), new QuernError('DEADLINE_EXCEEDED', "the caller's deadline passed"));
    }
    const shared = this.#shared();
    void shared.runLevel(this.#outerLevel()).then((end) => this.#ended(end));
  }

  /** Reads its events from behind a sequence number. Throws OUT_OF_RANGE. */
  read(after: number): RunReader {
    return this.log.reader(after);
  }

  /** RequestService.Cancel. */
  cancel(reason: QuernError): void {
    this.#stop.abort(reason);
  }

  /** Ends it and everything below it. */
  abort(reason: QuernError): void {
    this.#stop.abort(reason);
  }

  awaits(approvalId: string): boolean {
    return this.#approvals.has(approvalId);
  }

  /** Passes an answer for a waiting call on to the tool service. Throws what forbids it. */
  async answer(
    approver: Principal,
    given: { approvalId: string; digest: Buffer; allow: boolean; reason: string; unattended?: boolean | undefined },
    trace: TraceContext,
  ): Promise<void> {
    const { principal, toolService } = this.options;
    const { approvalId, digest, allow, reason, unattended } = given;
    const isOwn = principalKey(approver) === principalKey(principal);
    if (!unattended || !isOwn) checkApprover(approver, principal); // that nobody is there, its own caller knows
    this.#approvals.check(approvalId, digest);
    const caller = { ...this.#caller(), user: approver.user, keyId: approver.keyId };
    const options = { signal: this.signal, trace };
    if (allow) await toolService.approve({ caller, approvalId, digest }, options);
    else await toolService.deny({ caller, approvalId, reason, unattended }, options);
  }

  /** Not to be read any more; ends it when it runs. */
  close(): void {
    this.abort(new QuernError('UNAVAILABLE', 'this gateway is stopping; try again', { reason: 'DRAINING' }));
    if (this.#linger) clearTimeout(this.#linger);
    this.#gone();
  }

  /** Has the workspace removed that nobody but this run knew. */
  async endSession(): Promise<void> {
    const { toolService, trace } = this.options;
    for (let attempt = 0; attempt < END_SESSION_ATTEMPTS_MAX; attempt += 1) {
      if (await toolService.endSession({ caller: this.#caller() }, { signal: NEVER, trace })) return;
      await sleep(END_SESSION_RETRY_MS * 2 ** attempt, undefined, { ref: false }); // what was cancelled takes its time to end
    }
  }

  #outerLevel(): RunLevel {
    const { depth, plan, messages, tools, trace } = this.options;
    return { path: '', depth, plan, messages, tools, account: this.account, trace, answer: '' };
  }

  #caller(): Caller {
    const { principal, sessionId, runId } = this.options;
    const { tenant, user, keyId } = principal;
    return { tenant, user, keyId, sessionId, requestId: runId };
  }

  #shared(): RunShared {
    const { runId, instance, model, sampling, budget, taint, turn, toolService, spans, watch } = this.options;
    const { wallMs, deadlineMs } = this.options;
    const shared: RunShared = {
      runId,
      instance,
      model,
      caller: this.#caller(),
      sampling,
      budget,
      log: this.log,
      approvals: this.#approvals,
      taint,
      turn,
      tools: toolService,
      spans,
      watch,
      signal: this.signal,
      deadlineMs: performance.now() + Math.min(wallMs, deadlineMs ?? wallMs),
      seal: (level, trace) => this.#seal(level, trace, shared.deadlineMs - performance.now()),
      runLevel: (level) => runLevel(shared, level),
    };
    return shared;
  }

  #seal(level: RunLevel, trace: TraceContext, leftMs: number): string {
    const { runId, instance, principal, budget, taint, sealingKey } = this.options;
    const { readUntrusted, hasPrivate, canExfiltrate } = taint;
    const context: NestedContext = {
      runId,
      instance,
      tenant: principal.tenant,
      user: principal.user,
      trace: inject(trace).traceparent,
      depth: level.depth,
      depthMax: budget.limits.depth,
      turnsLeft: budget.turnsLeft,
      callsLeft: budget.callsLeft,
      tokensLeft: budget.tokensLeft,
      resultBytesLeft: budget.resultBytesLeft,
      taint: (readUntrusted ? 1 : 0) + (hasPrivate ? 2 : 0) + (canExfiltrate ? 4 : 0),
      expiresUnixMs: Math.floor(Date.now() + Math.min(leftMs, NESTED_CONTEXT_MS_MAX)),
    };
    return sealNested(sealingKey, context);
  }

  #ended(end: LevelEnd): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.log.close();
    this.#resolveDone(end);
    this.#onReaders(this.log.readers, null);
  }

  /** With nobody reading, a run goes on, or stays to be read, for its linger time. */
  #onReaders(count: number, reason: QuernError | null): void {
    if (this.#linger) clearTimeout(this.#linger);
    this.#linger = null;
    if (count > 0 || this.#isGone) return;
    const { lingerMs } = this.options;
    if (lingerMs === 0) this.#unread(reason);
    else this.#linger = setTimeout(() => this.#unread(null), lingerMs);
  }

  /** A reader whose deadline passed takes the run's with it; one that is slow or gone cancels it. */
  #unread(reason: QuernError | null): void {
    if (this.log.closed) {
      this.#gone();
      return;
    }
    const kept = reason !== null && ['DEADLINE_EXCEEDED', 'UNAVAILABLE'].includes(reason.code) ? reason : null;
    this.abort(kept ?? new QuernError('CANCELLED', 'nobody reads the run any more'));
  }

  #gone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#onGone();
  }
}

/** The RunEnded of a run that is over, from its events. */
export function endedOf(run: AgentRun): RunEnded | null {
  const last = run.log.after(run.log.last - 1)?.event.event;
  return last?.$case === 'ended' ? last.value : null;
}
