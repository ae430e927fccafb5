// One call, from its acceptance to its one Result. Order: arguments → policy → taint → a person's approval → a place → that it was
// asked for is in the journal and in the audit outbox, fsynced → the tool runs → what it made is capped → its end is recorded.
import { hash } from 'node:crypto';
import { Result } from '#gen/quern/tools/v1/tools.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { SpanSink, TraceContext } from '#kit/trace.ts';
import type { Admission } from './admission.ts';
import { type Answer, type ApprovalSubject, type Approvals, approvalDigest } from './approvals.ts';
import { CallEvents } from './call-events.ts';
import type { CallFacts, CallJournal } from './call-journal.ts';
import type { OpenWorkspace, ReadArtifact, ToolCatalog, Verdict, WorkspaceDoor, WorkspaceHold } from './call-ports.ts';
import { canonicalJson } from './canonical.ts';
import type { Jail, SandboxLimits } from './jail/sandbox.ts';
import { APPROVAL_ARGUMENTS_BYTES_MAX } from './limits.ts';
import { killMessage, OUTCOME_WORDS, type OutcomeWord, STOP_OUTCOMES, type StopCause } from './outcome.ts';
import type { ArtifactBytes, JsonObject, PreparedCall, Taint, Tool } from './tool.ts';
import type { AuditedCaller, CallRecords, ToolAudit } from './tool-audit.ts';
import { ARTIFACTS_MAX } from './tool-limits.ts';
import { emptyResult, type RunResult, runPrepared } from './tool-run.ts';
import { ToolSpans } from './tool-spans.ts';
import type { ToolsMetrics } from './tools-metrics.ts';
import { ulid } from './ulid.ts';
import { workspaceDigest } from './workspace-digest.ts';

/** What calls share. */
export type ExecutionParts = {
  jail: Jail;
  catalog: ToolCatalog;
  workspaces: WorkspaceDoor;
  audit: ToolAudit;
  journal: CallJournal;
  admission: Admission;
  approvals: Approvals;
  metrics: ToolsMetrics;
  spans: SpanSink;
  log: Log;
  approvalWaitMs: number;
};

/** A call whose fields are checked. */
export type CallRequest = {
  caller: AuditedCaller;
  callId: string;
  /** Hex digest of tenant, user and idempotency key; "" = no key. */
  key: string;
  /** Hex digest of what a key stands for. */
  requestSha: string;
  tool: Tool;
  verdict: Verdict;
  argumentsJson: string;
  stdin: Uint8Array | null;
  limits: SandboxLimits;
  modelOutputBytes: number;
  /** When it must have ended, so that the caller is still told. */
  endUnixMs: number;
  depth: number;
  taint: Taint;
  trace: TraceContext;
};

/** Something ended the call before its tool ran to its end. */
class Ended extends Error {
  readonly outcome: OutcomeWord;

  constructor(outcome: OutcomeWord, message: string) {
    super(message);
    this.outcome = outcome;
  }
}

const NOBODY_ASKED =
  'it needs the approval of a person, and nobody is there to be asked; go on without it, or let a person call it';

const NO_TAINT: Taint = { readUntrusted: false, hasPrivate: false, canExfiltrate: false };

const keptArtifact = ({ path, mediaType, data }: ArtifactBytes): ReadArtifact => {
  return { path, size: data.length, sha256: hash('sha256', data, 'buffer'), mediaType, data };
};

const seconds = (fromMs: number): number => (performance.now() - fromMs) / 1000;

/** Who a call belongs to, in the journal: hex SHA-256 of tenant and user. */
export function ownerDigest({ tenant, user }: { tenant: string; user: string }): string {
  return hash('sha256', JSON.stringify([tenant, user]), 'hex');
}

function holdOf(prepared: PreparedCall): WorkspaceHold {
  const touches = prepared.kind === 'sandbox' ? prepared.command.workspace !== null : prepared.tier === 'mcp';
  return touches ? 'shared' : 'none';
}

/** Both say what the conversation has touched. */
export function joinTaint(a: Taint, b: Taint): Taint {
  return {
    readUntrusted: a.readUntrusted || b.readUntrusted,
    hasPrivate: a.hasPrivate || b.hasPrivate,
    canExfiltrate: a.canExfiltrate || b.canExfiltrate,
  };
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
  readonly #acceptedMs = performance.now();
  #waitedForPersonMs = 0;
  #setupNs = 0;
  #begun: CallFacts | null = null;
  /** The tool was given its work. */
  #handedOver = false;
  #records: CallRecords | null = null;
  #hasPlace = false;

  constructor(parts: ExecutionParts, request: CallRequest) {
    this.#parts = parts;
    this.request = request;
    const { caller, callId, tool, depth, trace } = request;
    const { name, kind } = tool.definition;
    const { tenant, keyId, requestId } = caller;
    const spanned = { executionId: this.id, callId, tool: name, kind, depth, tenant, keyId, requestId };
    this.#spans = new ToolSpans(parts.spans, trace, spanned);
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
      await this.#freeKey('sandbox_unavailable');
      this.#records?.finished({ outcome: 'sandbox_unavailable', usage: {} });
      this.#spans.finish('sandbox_unavailable');
      this.endedMs = performance.now();
      this.events.end();
      throw refusal;
    } finally {
      clearTimeout(timer);
    }
    const result = this.#resultOf(run);
    await this.#close(run, result);
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
    const approved = verdict.decision === 'ask' ? await this.#askPerson(args, workspace.path) : null;
    const leave = await this.#enter();
    try {
      const hold = approved ? 'alone' : holdOf(prepared);
      await opened.begin({ hold, tool: tool.definition.name, signal: this.#stop.signal });
      this.#spans.setup();
      await this.#begin(this.#record(args));
      if (approved) await this.#checkUnchanged(approved, workspace.path); // and nothing else runs there until its end
      this.#stop.signal.throwIfAborted();
      const run = await this.#asPromised(await this.#runPrepared(prepared));
      await this.#sendArtifacts(opened, run);
      return run;
    } finally {
      leave();
    }
  }

  /** That it was asked for goes to the outbox now; nothing runs before `requested` has resolved. */
  #record(args: JsonObject | null): CallRecords {
    if (this.#records) return this.#records;
    const { caller, callId, tool, verdict, argumentsJson, stdin, depth } = this.request;
    const text = args === null ? argumentsJson : canonicalJson(args);
    this.#records = this.#parts.audit.call({
      executionId: this.id,
      callId,
      caller,
      tool: tool.definition.name,
      toolVersion: tool.definition.version,
      toolSha: tool.definition.sha256,
      policySha: verdict.sha,
      content: Buffer.concat([Buffer.from(text.toWellFormed()), ...(stdin ? [Buffer.from('\0'), stdin] : [])]),
      depth,
      trace: this.#spans.context,
    });
    this.#records.requested.catch(() => {}); // whoever needs it awaits it; a call that runs nothing may end without
    return this.#records;
  }

  /** Resolves when both the journal and the outbox have on disk that it may run. */
  async #begin({ actorRef, requested }: CallRecords): Promise<void> {
    const { caller, callId, key, requestSha, tool } = this.request;
    const facts: CallFacts = {
      executionId: this.id,
      tenant: caller.tenant,
      owner: ownerDigest(caller),
      actorRef,
      callId,
      key,
      requestSha,
      tool: tool.definition.name,
      toolSha: tool.definition.sha256,
      requestId: caller.requestId,
      traceId: this.#spans.context.traceId,
    };
    const begun = this.#parts.journal.begin(facts).then(() => {
      this.#begun = facts;
    });
    for (const part of await Promise.allSettled([requested, begun])) if (part.status === 'rejected') throw part.reason;
  }

  #deniedBecause(): string {
    const { verdict, tool } = this.request;
    return verdict.reason || `the policy does not allow ${tool.definition.name}`;
  }

  /** What a person has allowed. Throws Ended when nobody allows it. */
  async #askPerson(args: JsonObject, workspacePath: string): Promise<ApprovalSubject> {
    const { approvals, approvalWaitMs } = this.#parts;
    const { caller, tool, verdict, stdin, endUnixMs } = this.request;
    const argumentsJson = canonicalJson(args);
    if (Buffer.byteLength(argumentsJson) > APPROVAL_ARGUMENTS_BYTES_MAX) {
      throw new Ended(
        'denied_approval',
        `arguments of more than ${APPROVAL_ARGUMENTS_BYTES_MAX} bytes cannot be shown to a person; use less`,
      );
    }
    const records = this.#record(args);
    await records.requested; // before a person is asked
    const subject: ApprovalSubject = {
      toolSha: tool.definition.sha256,
      fingerprint: tool.fingerprint,
      args,
      stdinSha: stdin ? hash('sha256', stdin, 'hex') : '',
      workspaceDigest: await workspaceDigest(workspacePath),
      policySha: verdict.sha,
    };
    const { signal } = this.#stop;
    const pending = approvals.ask({ tenant: caller.tenant, subject, waitMs: approvalWaitMs, signal });
    const askedMs = performance.now();
    this.#spans.event('approval.required');
    this.events.append({
      $case: 'approvalRequired',
      value: {
        approvalId: pending.id,
        digest: Buffer.from(pending.digest, 'hex'),
        reason: verdict.reason,
        tool: tool.definition.name,
        argumentsJson,
        expiresUnixMs: BigInt(Math.min(pending.expiresUnixMs, Math.round(endUnixMs))),
      },
    });
    const answer = await pending.answered;
    this.#waitedForPersonMs = performance.now() - askedMs;
    await this.#heed(answer, records, subject, workspacePath);
    return subject;
  }

  async #heed(answer: Answer, records: CallRecords, subject: ApprovalSubject, workspacePath: string): Promise<void> {
    this.#spans.event(`approval.${answer.kind}`);
    if (answer.kind === 'expired') {
      records.denied(null, 'EXPIRED');
      throw new Ended('denied_approval', 'nobody allowed it in time; ask the person, then call again');
    }
    if (answer.kind === 'unattended') {
      records.denied(null, 'NO_APPROVER');
      throw new Ended('no_approver', answer.reason || NOBODY_ASKED);
    }
    if (answer.kind === 'denied') {
      records.denied(answer.by, 'DENIED');
      throw new Ended(
        'denied_approval',
        answer.reason === '' ? 'a person denied it' : `a person denied it: ${answer.reason}`,
      );
    }
    await this.#checkUnchanged(subject, workspacePath);
    await records.approved(answer.by);
  }

  /** Throws Ended when the workspace is not the one that the approval is for. */
  async #checkUnchanged(subject: ApprovalSubject, workspacePath: string): Promise<void> {
    const now = await workspaceDigest(workspacePath).catch(() => '');
    if (approvalDigest({ ...subject, workspaceDigest: now }) === approvalDigest(subject)) return;
    this.#records?.denied(null, 'WORKSPACE_CHANGED');
    throw new Ended(
      'denied_approval',
      'the workspace changed after a person was asked and before it ran, so the approval does not hold; call again',
    );
  }

  async #enter(): Promise<() => void> {
    const { admission, metrics } = this.#parts;
    const waitsFrom = performance.now();
    const leave = await admission.enter(this.request.caller.tenant, this.#stop.signal);
    metrics.queued(seconds(waitsFrom));
    this.#hasPlace = true;
    return leave;
  }

  async #runPrepared(prepared: PreparedCall): Promise<RunResult> {
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
      onStart: (tier) => {
        this.#setupNs = Math.round((performance.now() - this.#acceptedMs - this.#waitedForPersonMs) * 1e6);
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

  /** The end's record is on its way and the journal has it before the caller is told. */
  async #close({ outcome, exitCode, usage }: RunResult, result: Result): Promise<void> {
    const { journal, log } = this.#parts;
    this.#record(null).finished({
      outcome,
      usage: {
        setup_us: Math.round(this.#setupNs / 1e3),
        run_ms: Math.round(usage.runNs / 1e6),
        cpu_ms: Math.round(usage.cpuNs / 1e6),
        memory_bytes: Math.round(usage.maxMemoryBytes),
        stdout_bytes: usage.stdoutBytes,
        stderr_bytes: usage.stderrBytes,
        ...(exitCode !== null && { exit_code: exitCode }),
      },
    });
    if (!this.#begun) return;
    if (!this.#mayHaveRun(outcome)) return this.#freeKey(outcome);
    const kept = this.request.key === '' ? null : Buffer.from(Result.encode(result).finish()).toString('base64');
    await journal.end(this.#begun, { outcome, result: kept }).catch((error: unknown) => {
      log.error({ err: error, execution_id: this.id }, 'the end of a tool call could not be kept');
    });
  }

  #mayHaveRun(outcome: OutcomeWord): boolean {
    if (!this.#handedOver || outcome === 'sandbox_unavailable') return false;
    return outcome !== 'sandbox_setup_failed' || this.#setupNs > 0;
  }

  /** A call of which nothing began is not what its key stands for: the caller may send it again. */
  async #freeKey(outcome: OutcomeWord): Promise<void> {
    if (!this.#begun) return;
    const { journal, log } = this.#parts;
    await journal.free(this.#begun, outcome).catch((error: unknown) => {
      log.error({ err: error, execution_id: this.id }, 'the key of a call that did not begin could not be freed');
    });
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
