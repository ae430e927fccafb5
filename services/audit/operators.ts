// Who may look into the log. Producers learn how far it covers their records, and anybody of the mesh may have heads and proofs,
// which are hashes; what people did is for operators. A refusal is recorded too.
import type { Outbox } from '#kit/audit/outbox.ts';
import { type AuditAction, SYSTEM_TENANT } from '#kit/audit/record.ts';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { Principal } from '#kit/principal.ts';
import { DENIED_CALLERS_MAX, DENIED_RECORD_MS } from './limits.ts';

/** What an operator does, as its record names it. */
export type OperatorAction = Extract<AuditAction, 'audit.read' | 'audit.exported' | 'audit.erased'>;

export type OperatorsOptions = {
  outbox: Pick<Outbox, 'append'>;
  log: Log;
  /** Whether a token for operators is set at all. */
  hasToken: boolean;
};

const WORDS: Record<OperatorAction, string> = {
  'audit.read': 'reading',
  'audit.exported': 'exporting',
  'audit.erased': 'erasing in',
};

export class Operators {
  readonly #options: OperatorsOptions;
  /** Refusals by caller and action: one that asks again and again is written down once a minute, with the count. */
  readonly #refused = new Map<string, { recordedMs: number; calls: number }>();

  constructor(options: OperatorsOptions) {
    this.#options = options;
  }

  /** Throws PERMISSION_DENIED for everybody but an operator: who holds the token, or is alone with the socket of a mesh of one. */
  async require(principal: Principal, action: OperatorAction): Promise<void> {
    if (principal.role === 'admin') return;
    await this.#record(principal, action);
    const { hasToken } = this.#options;
    const message =
      `${WORDS[action]} the audit log needs the token of its operators, and this call came as ${principal.keyId}; set ` +
      'QUERN_AUDIT_OPERATOR_TOKEN or QUERN_AUDIT_OPERATOR_TOKEN_FILE to what the audit service has' +
      (hasToken ? '' : ' (it has none yet: set it there too)');
    throw new QuernError('PERMISSION_DENIED', message, { reason: 'AUDIT_OPERATOR_ONLY' });
  }

  async #record(principal: Principal, action: OperatorAction): Promise<void> {
    const { outbox, log } = this.#options;
    const caller = `${principal.keyId} ${action}`;
    const known = this.#refused.get(caller) ?? { recordedMs: Number.NEGATIVE_INFINITY, calls: 0 };
    known.calls += 1;
    if (this.#refused.size >= DENIED_CALLERS_MAX) this.#refused.clear();
    this.#refused.set(caller, known);
    if (performance.now() - known.recordedMs < DENIED_RECORD_MS) return;
    const { calls } = known;
    Object.assign(known, { recordedMs: performance.now(), calls: 0 });
    await outbox
      .append({
        tenant: SYSTEM_TENANT,
        actor: { kind: 'service', ref: principal.keyId },
        action,
        outcome: 'denied',
        code: 'PERMISSION_DENIED',
        reason: 'AUDIT_OPERATOR_ONLY',
        usage: { calls },
      })
      .catch((error: unknown) => log.error({ err: error }, 'a refused call could not be recorded'));
  }
}
