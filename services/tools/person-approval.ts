// One call's question to a person: what is shown, what an answer means, and whether what was approved is still what would run.
import { hash } from 'node:crypto';
import { type Answer, type ApprovalSubject, approvalDigest } from './approvals.ts';
import type { CallAccount } from './call-account.ts';
import type { CallEvents } from './call-events.ts';
import type { CallRequest, ExecutionParts } from './call-request.ts';
import { canonicalJson } from './canonical.ts';
import { APPROVAL_ARGUMENTS_BYTES_MAX } from './limits.ts';
import type { OutcomeWord } from './outcome.ts';
import type { JsonObject } from './tool.ts';
import type { CallRecords } from './tool-audit.ts';
import type { ToolSpans } from './tool-spans.ts';
import { workspaceDigest } from './workspace-digest.ts';

/** Something ended the call before its tool ran to its end. */
export class Ended extends Error {
  readonly outcome: OutcomeWord;

  constructor(outcome: OutcomeWord, message: string) {
    super(message);
    this.outcome = outcome;
  }
}

const NOBODY_ASKED =
  'it needs the approval of a person, and nobody is there to be asked; go on without it, or let a person call it';

type Approved = { readonly subject: ApprovalSubject; readonly workspacePath: string };

type AskingCall = {
  readonly request: CallRequest;
  readonly events: CallEvents;
  readonly spans: ToolSpans;
  readonly account: CallAccount;
  readonly signal: AbortSignal;
};

export class PersonApproval {
  readonly #parts: Pick<ExecutionParts, 'approvals' | 'approvalWaitMs'>;
  readonly #call: AskingCall;
  #approved: Approved | null = null;
  #waitedMs = 0;

  constructor(parts: Pick<ExecutionParts, 'approvals' | 'approvalWaitMs'>, call: AskingCall) {
    this.#parts = parts;
    this.#call = call;
  }

  /** How long the person took. */
  get waitedMs(): number {
    return this.#waitedMs;
  }

  /** Resolves when a person has allowed it. Throws Ended when nobody does. */
  async ask(args: JsonObject, workspacePath: string): Promise<void> {
    const { approvals, approvalWaitMs } = this.#parts;
    const { request, events, spans, account, signal } = this.#call;
    const { caller, tool, verdict, stdin, endUnixMs } = request;
    const argumentsJson = canonicalJson(args);
    if (Buffer.byteLength(argumentsJson) > APPROVAL_ARGUMENTS_BYTES_MAX) {
      throw new Ended(
        'denied_approval',
        `arguments of more than ${APPROVAL_ARGUMENTS_BYTES_MAX} bytes cannot be shown to a person; use less`,
      );
    }
    const records = account.record(args);
    await records.requested; // before a person is asked
    const subject: ApprovalSubject = {
      toolSha: tool.definition.sha256,
      fingerprint: tool.fingerprint,
      args,
      stdinSha: stdin ? hash('sha256', stdin, 'hex') : '',
      workspaceDigest: await workspaceDigest(workspacePath),
      policySha: verdict.sha,
    };
    const pending = approvals.ask({ tenant: caller.tenant, subject, waitMs: approvalWaitMs, signal });
    const askedMs = performance.now();
    spans.event('approval.required');
    events.append({
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
    this.#waitedMs = performance.now() - askedMs;
    await this.#heed(answer, records, { subject, workspacePath });
    this.#approved = { subject, workspacePath };
  }

  async #heed(answer: Answer, records: CallRecords, approved: Approved): Promise<void> {
    this.#call.spans.event(`approval.${answer.kind}`);
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
    await this.#compare(approved);
    await records.approved(answer.by);
  }

  /** Again, directly before it runs. Throws Ended when the workspace is not the one that the approval is for. */
  async checkUnchanged(): Promise<void> {
    if (this.#approved) await this.#compare(this.#approved);
  }

  async #compare({ subject, workspacePath }: Approved): Promise<void> {
    const now = await workspaceDigest(workspacePath).catch(() => '');
    if (approvalDigest({ ...subject, workspaceDigest: now }) === approvalDigest(subject)) return;
    this.#call.account.record(subject.args).denied(null, 'WORKSPACE_CHANGED');
    throw new Ended(
      'denied_approval',
      'the workspace changed after a person was asked and before it ran, so the approval does not hold; call again',
    );
  }
}
