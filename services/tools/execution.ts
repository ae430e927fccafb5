// One call, from its acceptance to its one Result. Order: arguments → policy → taint → a person's approval → a place → that it was
// asked for is in the journal and in the audit outbox, fsynced → the tool runs → what it made is capped → its end is recorded.
import { hash } from 'node:crypto';
import type { Result } from '#gen/quern/tools/v1/tools.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { NO_TAINT } from '#kit/taint.ts';
import { CallAccount } from './call-account.ts';
import { CallEvents } from './call-events.ts';
import type { OpenWorkspace, ReadArtifact, WorkspaceHold } from './call-ports.ts';
import type { CallRequest, ExecutionParts } from './call-request.ts';
import { killMessage, OUTCOME_WORDS, type OutcomeWord, STOP_OUTCOMES, type StopCause } from './outcome.ts';
import { Ended, PersonApproval } from './person-approval.ts';
import type { ArtifactBytes, JsonObject, PreparedCall } from './tool.ts';
import { ARTIFACTS_MAX } from './tool-limits.ts';
import { emptyResult, type RunResult, runPrepared } from './tool-run.ts';
import { ToolSpans } from './tool-spans.ts';
import { ulid } from './ulid.ts';

const keptArtifact = ({ path, mediaType, data }: ArtifactBytes): ReadArtifact => {
  return { path, size: data.length, sha256: hash('sha256', data, 'buffer'), mediaType, data };
};

const seconds = (fromMs: number): number => (performance.now() - fromMs) / 1000;

function holdOf(prepared: PreparedCall): WorkspaceHold {
  const touches = prepared.kind === 'sandbox' ? prepared.command.workspace !== null : prepared.tier === 'mcp';
  return touches ? 'shared' : 'none';
}

export class Execution {
  readonly id = ulid();
  readonly request: CallRequest;
  readonly events = new CallEvents();
  /** Rejects with what the caller is refused with: there was no room, or the call could not be recorded. Nothing of it ran. */
  readonly result: Promise<Result>;
  /** When it ended, by performance.now(); null: it runs. */
  endedMs: number | null = null;
  readonly #parts: ExecutionParts;
  readonly #stop = new AbortController();
  #stopped: OutcomeWord | null = null;
  readonly #spans: ToolSpans;
  readonly #account: CallAccount;
  readonly #approval: PersonApproval;
  readonly #acceptedMs = performance.now();
  #setupNs = 0;
  /** The tool was given its work. */
  #handedOver = false;
  #hasPlace = false;

  constructor(parts: ExecutionParts, request: CallRequest) {
    this.#parts = parts;
    this.request = request;
    const { caller, callId, tool, depth, trace } = request;
    const { name, kind } = tool.definition;
    const { tenant, keyId, requestId } = caller;
    const spanned = { executionId: this.id, callId, tool: name, kind, depth, tenant, keyId, requestId };
    this.#spans = new ToolSpans(parts.spans, trace, spanned);
    this.#account = new CallAccount(parts, request, { executionId: this.id, trace: this.#spans.context });
    const { events } = this;
    const { signal } = this.#stop;
    this.#approval = new PersonApproval(parts, { request, events, spans: this.#spans, account: this.#account, signal });
    this.result = this.#run();
    this.result.catch(() => {}); // who follows its events asks
  }

  /** It has a place, or had one: something of it may run. */
  get hasPlace(): boolean {
    return this.#hasPlace;
  }

  /** Ends it, as what counts first. Idempotent. */
  stop(cause: StopCause): void {
    this.#stopAs(STOP_OUTCOMES[cause]);
  }

  #stopAs(outcome: OutcomeWord): void {
    if (this.#stopped || this.endedMs !== null) return;
    this.#stopped = outcome;
    this.#stop.abort(new QuernError('CANCELLED', killMessage(outcome, this.request.limits)));
  }

  async #run(): Promise<Result> {
    const { endUnixMs, tool } = this.request;
    const timer = setTimeout(() => this.stop('deadline'), Math.max(0, endUnixMs - Date.now()));
    let run: RunResult;
    try {
      run = await this.#steps().catch((error: unknown) => this.#failed(error));
    } catch (refusal) {
      await this.#account.refused();
      this.#spans.finish('sandbox_unavailable');
      this.endedMs = performance.now();
      this.events.end();
      throw refusal;
    } finally {
      clearTimeout(timer);
    }
    const result = this.#resultOf(run);
    await this.#account.close(run, result, { setupNs: this.#setupNs, handedOver: this.#handedOver });
    const { outcome } = run;
    this.#spans.finish(outcome);
    this.#parts.metrics.ended(tool.definition.kind, outcome);
    this.endedMs = performance.now();
    this.events.append({ $case: 'result', value: result });
    this.#writeLine(outcome, result);
    return result;
  }

  async #steps(): Promise<RunResult> {
    const { tool, verdict, argumentsJson } = this.request;
    const { catalog, workspaces } = this.#parts;
    const { signal } = this.#stop;
    const missing = tool.unavailable();
    if (missing !== null) return emptyResult(tool.isUnset ? 'not_configured' : 'sandbox_unavailable', missing);
    const { tenant } = this.request.caller;
    const checked = await catalog.check(tool, argumentsJson, { signal, tenant });
    if (!checked.ok) return emptyResult('invalid_args', checked.message);
    if (verdict.decision === 'deny') return emptyResult('denied_policy', this.#deniedBecause());
    const opened = await workspaces.enter(this.request.caller, { waits: true });
    const onFull = (): void => this.#stopAs('disk_limit');
    opened.full.addEventListener('abort', onFull, { once: true });
    try {
      return await this.#inWorkspace(opened, checked.args);
    } finally {
      opened.full.removeEventListener('abort', onFull);
      await opened.leave();
    }
  }

  async #inWorkspace(opened: OpenWorkspace, args: JsonObject): Promise<RunResult> {
    const { workspace } = opened;
    const { caller, stdin, limits, tool, verdict } = this.request;
    const { tenant, user, sessionId } = caller;
    const prepared = await tool.prepare(args, { tenant, user, sessionId, workspace, stdin, limits });
    const asks = verdict.decision === 'ask';
    if (asks) await this.#approval.ask(args, workspace.path);
    // The workspace first: a call that waits for it must not keep a place from calls of the tenant's other sessions.
    const hold = asks ? 'alone' : holdOf(prepared);
    await opened.begin({ hold, tool: tool.definition.name, signal: this.#stop.signal });
    const leave = await this.#enter();
    try {
      this.#spans.setup();
      await this.#account.begin(this.#account.record(args));
      await this.#approval.checkUnchanged(); // and nothing else runs there until its end
      this.#stop.signal.throwIfAborted();
      const run = await this.#asPromised(await this.#runPrepared(prepared, opened));
      await this.#sendArtifacts(opened, run);
      return run;
    } finally {
      leave();
    }
  }

  #deniedBecause(): string {
    const { verdict, tool } = this.request;
    return verdict.reason || `the policy does not allow ${tool.definition.name}`;
  }

  async #enter(): Promise<() => void> {
    const { admission, metrics } = this.#parts;
    const waitsFrom = performance.now();
    const leave = await admission.enter(this.request.caller.tenant, this.#stop.signal);
    metrics.queued(seconds(waitsFrom));
    this.#hasPlace = true;
    return leave;
  }

  async #runPrepared(prepared: PreparedCall, opened: OpenWorkspace): Promise<RunResult> {
    const { jail, metrics, log } = this.#parts;
    const { limits, modelOutputBytes, tool } = this.request;
    const placeMs = performance.now();
    this.#handedOver = true;
    const run = await runPrepared({
      jail,
      prepared,
      limits,
      modelOutputBytes,
      events: this.events,
      signal: this.#stop.signal,
      stopped: () => this.#stopped,
      onHeldUp: () => void opened.endIdle?.().catch(() => {}), // then the wait is in vain, and says so
      onStart: (tier) => {
        this.#setupNs = Math.round((performance.now() - this.#acceptedMs - this.#approval.waitedMs) * 1e6);
        metrics.setup(seconds(placeMs), this.#spans.context);
        this.#spans.started(tier);
        const setupNs = BigInt(this.#setupNs);
        this.events.append({ $case: 'started', value: { executionId: this.id, tier, setupNs } });
      },
      onEnd: (end) => this.#spans.ended({ ...end, setupFailed: end.setupFailure !== null }),
      log,
    });
    const { runNs, stdoutBytes, stderrBytes } = run.usage;
    if (runNs > 0) metrics.run(tool.definition.kind, runNs / 1e9, this.#spans.context);
    metrics.output(stdoutBytes + stderrBytes);
    return run;
  }

  /** The result, or that it is not what a command's output schema promises. Other kinds look at theirs themselves. */
  async #asPromised(run: RunResult): Promise<RunResult> {
    const { tool, caller } = this.request;
    const { kind, outputSchema } = tool.definition;
    if (kind !== 'command' || outputSchema === null || run.outcome !== 'ok') return run;
    const options = { signal: this.#stop.signal, tenant: caller.tenant };
    const checked = await this.#parts.catalog
      .checkResult(tool, run.structured, options)
      .catch((error: unknown) => ({ ok: false as const, message: toQuernError(error).message }));
    if (checked.ok) return run;
    const why = checked.message.replace(/^arguments:?/, 'its result:');
    const told = emptyResult('nonzero_exit', `the tool promises a structured result, but ${why}`).message;
    return { ...run, outcome: 'nonzero_exit', message: told, structured: '' };
  }

  async #sendArtifacts(opened: OpenWorkspace, { artifacts }: RunResult): Promise<void> {
    for (const file of artifacts.slice(0, ARTIFACTS_MAX)) {
      const read =
        'data' in file
          ? keptArtifact(file)
          : await opened.artifact(file).catch((error: unknown) => {
              this.#parts.log.warn({ err: error, execution_id: this.id }, 'an artifact could not be read');
              return null; // the call has run: that it did is what its result says
            });
      if (!read) continue;
      const { path, size, sha256, mediaType, data } = read;
      this.events.append({ $case: 'artifact', value: { path, size: BigInt(size), sha256, mediaType, data } });
    }
  }

  /** What became of a call that threw on its way. Throws on what is a refusal and no result. */
  #failed(error: unknown): RunResult {
    if (error instanceof Ended) return emptyResult(error.outcome, error.message);
    if (this.#stopped) return emptyResult(this.#stopped, killMessage(this.#stopped, this.request.limits));
    const { code, message, details } = toQuernError(error);
    if (code === 'INVALID_ARGUMENT') return emptyResult('invalid_args', message);
    if (details.reason === 'SANDBOX_UNAVAILABLE') return emptyResult('sandbox_unavailable', message);
    if (code === 'RESOURCE_EXHAUSTED' || code === 'UNAVAILABLE') throw error;
    this.#parts.log.error({ err: error, execution_id: this.id }, 'a tool call could not be made ready');
    return emptyResult('sandbox_setup_failed', message);
  }

  #resultOf(run: RunResult): Result {
    const { outcome, message, exitCode, signal, content, contentCut, structured, usage } = run;
    const ran = this.#setupNs > 0;
    const { processesRefused: refused } = usage;
    return {
      outcome: OUTCOME_WORDS[outcome],
      message,
      exitCode: exitCode ?? undefined,
      signal,
      content,
      contentCut,
      structuredJson: structured,
      usage: {
        setupNs: BigInt(this.#setupNs),
        runNs: BigInt(Math.round(usage.runNs)),
        cpuNs: BigInt(Math.round(usage.cpuNs)),
        maxMemoryBytes: BigInt(Math.round(usage.maxMemoryBytes)),
        stdoutBytes: BigInt(usage.stdoutBytes),
        stderrBytes: BigInt(usage.stderrBytes),
      },
      taint: ran ? this.request.verdict.policy.taint : NO_TAINT,
      replayed: false,
      ...(refused > 0 && outcome !== 'pids' && { limitsHit: { processes: refused } }),
    };
  }

  /** Names, numbers and outcome; never arguments or output. */
  #writeLine(outcome: OutcomeWord, { usage }: Result): void {
    const { caller, callId, tool } = this.request;
    this.#parts.log.info(
      {
        execution_id: this.id,
        call_id: callId,
        request_id: caller.requestId,
        trace_id: this.#spans.context.traceId,
        tenant: caller.tenant,
        tool: tool.definition.name,
        kind: tool.definition.kind,
        outcome,
        duration_ms: Math.round(performance.now() - this.#acceptedMs),
        setup_ms: Math.round(this.#setupNs / 1e4) / 100,
        output_bytes: Number((usage?.stdoutBytes ?? 0n) + (usage?.stderrBytes ?? 0n)),
      },
      'tool call',
    );
  }
}
