// Calls of a run that wait for somebody's answer.
import type { ApprovalRequired } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import type { Principal } from '#kit/principal.ts';
import { constantTimeEqual } from '#kit/secure.ts';

type Waiting = { callId: string; digest: Uint8Array; expiresUnixMs: number };

export class PendingApprovals {
  readonly #waiting = new Map<string, Waiting>();

  get size(): number {
    return this.#waiting.size;
  }

  has(approvalId: string): boolean {
    return this.#waiting.has(approvalId);
  }

  add(callId: string, { approvalId, digest, expiresUnixMs }: ApprovalRequired): void {
    this.#waiting.set(approvalId, { callId, digest, expiresUnixMs: Number(expiresUnixMs) });
  }

  /** The call has ended or runs. */
  endCall(callId: string): void {
    for (const [id, waiting] of this.#waiting) if (waiting.callId === callId) this.#waiting.delete(id);
  }

  /** Throws NOT_FOUND for what does not wait, FAILED_PRECONDITION for another digest or one that is too late. */
  check(approvalId: string, digest: Uint8Array): void {
    const waiting = this.#waiting.get(approvalId);
    if (!waiting) {
      const message = `no call of this run waits for an approval "${approvalId.slice(0, 64)}"; it may have been answered`;
      throw new QuernError('NOT_FOUND', message, { reason: 'APPROVAL_NOT_FOUND' });
    }
    if (!constantTimeEqual(digest, waiting.digest)) {
      const message = 'the digest is not that of the call that waits; show its arguments again and answer that';
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'APPROVAL_DIGEST_DIFFERS' });
    }
    if (Date.now() >= waiting.expiresUnixMs) {
      const message = 'the time to answer has passed, which is a no; let the run ask again';
      throw new QuernError('FAILED_PRECONDITION', message, { reason: 'APPROVAL_EXPIRED' });
    }
  }
}

/**
 * Who may answer for a run of the same tenant: an admin, and the user whose run it is. A key of role service stands for many
 * callers and for no person, so it may not. Throws PERMISSION_DENIED.
 */
export function checkApprover(approver: Principal, runOwner: Principal): void {
  if (approver.role === 'admin') return;
  if (approver.role === 'user' && approver.user === runOwner.user) return;
  const message =
    approver.role === 'service'
      ? 'a key of role service may not approve tool calls: it stands for no person; use the key of the user or of an admin'
      : "expected the key of the run's own user or of an admin of the tenant; another user may not approve its calls";
  throw new QuernError('PERMISSION_DENIED', message, { reason: 'APPROVER_NOT_ALLOWED' });
}
