// What is kept of one call: that it was asked for, in the audit outbox and in the journal, before anything of it runs, and its end.
import { Result } from '#gen/quern/tools/v1/tools.ts';
import type { TraceContext } from '#kit/trace.ts';
import type { CallFacts } from './call-journal.ts';
import { type CallRequest, type ExecutionParts, ownerDigest } from './call-request.ts';
import { canonicalJson } from './canonical.ts';
import type { OutcomeWord } from './outcome.ts';
import type { JsonObject } from './tool.ts';
import type { CallRecords } from './tool-audit.ts';
import type { RunResult } from './tool-run.ts';

/** How far a call came. `setupNs` 0: its tool's first instruction was not reached. */
type Ran = { readonly setupNs: number; readonly handedOver: boolean };

function mayHaveRun(outcome: OutcomeWord, { setupNs, handedOver }: Ran): boolean {
  if (!handedOver || outcome === 'sandbox_unavailable') return false;
  return outcome !== 'sandbox_setup_failed' || setupNs > 0;
}

export class CallAccount {
  readonly #parts: Pick<ExecutionParts, 'audit' | 'journal' | 'log'>;
  readonly #request: CallRequest;
  readonly #executionId: string;
  readonly #trace: TraceContext;
  #begun: CallFacts | null = null;
  #records: CallRecords | null = null;

  constructor(
    parts: Pick<ExecutionParts, 'audit' | 'journal' | 'log'>,
    request: CallRequest,
    { executionId, trace }: { executionId: string; trace: TraceContext },
  ) {
    this.#parts = parts;
    this.#request = request;
    this.#executionId = executionId;
    this.#trace = trace;
  }

  /** That it was asked for goes to the outbox now; nothing runs before `requested` has resolved. */
  record(args: JsonObject | null): CallRecords {
    if (this.#records) return this.#records;
    const { caller, callId, tool, verdict, argumentsJson, stdin, depth } = this.#request;
    const text = args === null ? argumentsJson : canonicalJson(args);
    this.#records = this.#parts.audit.call({
      executionId: this.#executionId,
      callId,
      caller,
      tool: tool.definition.name,
      toolVersion: tool.definition.version,
      toolSha: tool.definition.sha256,
      policySha: verdict.sha,
      content: Buffer.concat([Buffer.from(text.toWellFormed()), ...(stdin ? [Buffer.from('\0'), stdin] : [])]),
      depth,
      trace: this.#trace,
    });
    this.#records.requested.catch(() => {}); // whoever needs it awaits it; a call that runs nothing may end without
    return this.#records;
  }

  /** Resolves when both the journal and the outbox have on disk that it may run. */
  async begin({ actorRef, requested }: CallRecords): Promise<void> {
    const { caller, callId, key, requestSha, tool } = this.#request;
    const facts: CallFacts = {
      executionId: this.#executionId,
      tenant: caller.tenant,
      owner: ownerDigest(caller),
      actorRef,
      callId,
      key,
      requestSha,
      tool: tool.definition.name,
      toolSha: tool.definition.sha256,
      requestId: caller.requestId,
      traceId: this.#trace.traceId,
    };
    const begun = this.#parts.journal.begin(facts).then(() => {
      this.#begun = facts;
    });
    for (const part of await Promise.allSettled([requested, begun])) if (part.status === 'rejected') throw part.reason;
  }

  /** It was refused: nothing of it ran, and nobody gets a result. */
  async refused(): Promise<void> {
    await this.free('sandbox_unavailable');
    this.#records?.finished({ outcome: 'sandbox_unavailable', usage: {} });
  }

  /** The end's record is on its way and the journal has it before the caller is told. */
  async close({ outcome, exitCode, usage }: RunResult, result: Result, { setupNs, handedOver }: Ran): Promise<void> {
    const { journal, log } = this.#parts;
    this.record(null).finished({
      outcome,
      usage: {
        setup_us: Math.round(setupNs / 1e3),
        run_ms: Math.round(usage.runNs / 1e6),
        cpu_ms: Math.round(usage.cpuNs / 1e6),
        memory_bytes: Math.round(usage.maxMemoryBytes),
        stdout_bytes: usage.stdoutBytes,
        stderr_bytes: usage.stderrBytes,
        ...(exitCode !== null && { exit_code: exitCode }),
      },
    });
    if (!this.#begun) return;
    if (!mayHaveRun(outcome, { setupNs, handedOver })) return this.free(outcome);
    const kept = this.#request.key === '' ? null : Buffer.from(Result.encode(result).finish()).toString('base64');
    await journal.end(this.#begun, { outcome, result: kept }).catch((error: unknown) => {
      log.error({ err: error, execution_id: this.#executionId }, 'the end of a tool call could not be kept');
    });
  }

  /** A call of which nothing began is not what its key stands for: the caller may send it again. */
  async free(outcome: OutcomeWord): Promise<void> {
    if (!this.#begun) return;
    const { journal, log } = this.#parts;
    await journal.free(this.#begun, outcome).catch((error: unknown) => {
      log.error(
        { err: error, execution_id: this.#executionId },
        'the key of a call that did not begin could not be freed',
      );
    });
  }
}
