// Calls that wait for a person. An approval names the digest of exactly what would run, counts once, and only from the same tenant;
// no answer in time is a no.
import { hash } from 'node:crypto';
import { QuernError } from '#kit/errors.ts';
import { constantTimeEqual } from '#kit/secure.ts';
import { canonicalJson } from './canonical.ts';
import { APPROVALS_PENDING_MAX, APPROVALS_PENDING_PER_TENANT_MAX } from './limits.ts';
import type { JsonObject } from './tool.ts';
import { ulid } from './ulid.ts';

/** What an approval is bound to; a change of any of them makes it worthless. */
export type ApprovalSubject = {
  /** Hex SHA-256 of the definition. */
  toolSha: string;
  /** What would run. */
  fingerprint: string;
  args: JsonObject;
  /** Hex SHA-256 of what is given on standard input; "" = nothing. */
  stdinSha: string;
  /** Of the workspace as it is. */
  workspaceDigest: string;
  /** Of the policy in force. */
  policySha: string;
};

export type Answer =
  | { kind: 'approved'; by: Approver }
  | { kind: 'denied'; by: Approver; reason: string }
  | { kind: 'unattended'; by: Approver; reason: string }
  | { kind: 'expired' };

export type Approver = { tenant: string; user: string; keyId: string };

export type PendingApproval = {
  readonly id: string;
  /** Hex SHA-256. */
  readonly digest: string;
  readonly expiresUnixMs: number;
  /** Settles once; rejects with the signal's reason. */
  readonly answered: Promise<Answer>;
};

export type ApprovalOptions = { tenant: string; subject: ApprovalSubject; waitMs: number; signal: AbortSignal };

type Entry = { tenant: string; digest: string; settle(answer: Answer): void };

/** Hex SHA-256 over the canonical JSON of all parts. */
export function approvalDigest(subject: ApprovalSubject): string {
  return hash('sha256', canonicalJson({ v: 1, ...subject }), 'hex');
}

function unknown(): QuernError {
  const message =
    'no call waits for this approval: it was answered, its time is over, its call has ended, or it is not yours';
  return new QuernError('NOT_FOUND', message, { reason: 'APPROVAL_UNKNOWN' });
}

export class Approvals {
  readonly #pending = new Map<string, Entry>();

  /** Calls that wait. */
  get size(): number {
    return this.#pending.size;
  }

  /** Throws RESOURCE_EXHAUSTED when too many calls wait for people, of this tenant or of all. */
  ask({ tenant, subject, waitMs, signal }: ApprovalOptions): PendingApproval {
    const own = [...this.#pending.values()].filter((entry) => entry.tenant === tenant).length;
    if (own >= APPROVALS_PENDING_PER_TENANT_MAX || this.#pending.size >= APPROVALS_PENDING_MAX) {
      const message = `${own} tool calls of this tenant wait for a person already; answer some of them first`;
      throw new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'APPROVALS_FULL' });
    }
    const [id, digest] = [ulid(), approvalDigest(subject)];
    const { promise: answered, resolve, reject } = Promise.withResolvers<Answer>();
    const end = (act: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      this.#pending.delete(id);
      act();
    };
    const onAbort = (): void => end(() => reject(signal.reason));
    const timer = setTimeout(() => end(() => resolve({ kind: 'expired' })), waitMs);
    this.#pending.set(id, { tenant, digest, settle: (answer) => end(() => resolve(answer)) });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    return { id, digest, expiresUnixMs: Date.now() + waitMs, answered };
  }

  /**
   * Throws NOT_FOUND when there is no such call of this tenant, FAILED_PRECONDITION when what was shown is not what would run: the
   * call goes on waiting.
   */
  approve(id: string, digest: string, by: Approver): void {
    const entry = this.#find(id, by);
    if (!constantTimeEqual(entry.digest, digest)) {
      const message =
        'digest: expected that of the ApprovalRequired event, got another one; show what would run and ask again';
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'APPROVAL_DIGEST_MISMATCH' });
    }
    entry.settle({ kind: 'approved', by });
  }

  /** `unattended`: nobody could be asked, so no person said no. Throws NOT_FOUND as approve() does. */
  deny(id: string, reason: string, by: Approver, unattended = false): void {
    this.#find(id, by).settle({ kind: unattended ? 'unattended' : 'denied', by, reason });
  }

  #find(id: string, { tenant }: Approver): Entry {
    const entry = this.#pending.get(id);
    if (!entry || entry.tenant !== tenant) throw unknown();
    return entry;
  }
}
