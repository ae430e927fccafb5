// Who looks into the log or changes it is in the log: on disk before the first row goes out.
import type { Outbox } from '#kit/audit/outbox.ts';
import type { AuditEvent, AuditValue } from '#kit/audit/record.ts';
import type { Vault } from '#kit/audit/vault.ts';
import type { Principal } from '#kit/principal.ts';
import type { OperatorAction } from './operators.ts';

export type Access = {
  tenant: string;
  action: OperatorAction;
  /** A pseudonym or another word that names nobody. */
  target?: string | undefined;
  usage?: AuditEvent['usage'];
  /** What was asked for, readable as long as the asker's own key is. Nobody's name: it would outlive that person's erasure. */
  asked?: { readonly [name: string]: AuditValue };
};

/**
 * Throws UNAVAILABLE when the record cannot be written: then nothing may be shown or done. Under the tenant that was asked for,
 * if there is one of that name: asking for one that never was makes none, and is recorded under the asker's own.
 */
export async function recordAccess(
  { outbox, vault }: { outbox: Outbox; vault: Vault },
  principal: Principal,
  access: Access,
): Promise<void> {
  const { action, target, usage } = access;
  const isKnown = vault.hasTenant(access.tenant);
  const tenant = isKnown ? access.tenant : principal.tenant;
  const asked = isKnown ? access.asked : { ...access.asked, tenant: access.tenant };
  const operator = vault.subject({ tenant, kind: 'operator', id: `${principal.tenant}/${principal.user}` });
  await outbox.append({
    tenant,
    actor: { kind: 'operator', ref: operator.ref },
    action,
    outcome: 'ok',
    ...(target !== undefined && { target }),
    ...(usage && { usage }),
    ...(asked && { sealed: operator.seal(asked) }),
  });
}
