// Erase: nobody can tell any more whom a user's records speak of. What is done is on disk before it is done.
import type { EraseRequest, EraseResponse } from '#gen/quern/audit/v1/audit.ts';
import { QuernError } from '#kit/errors.ts';
import type { CallContext } from '#kit/rpc/service.ts';
import { recordAccess } from '../access.ts';
import type { AuditContext } from '../context.ts';
import { invalidField, tenantField } from '../request-fields.ts';

export async function erase(context: AuditContext, request: EraseRequest, call: CallContext): Promise<EraseResponse> {
  const tenant = tenantField(request.tenant);
  if (request.user === '') throw invalidField('user', 'expected the id of a user, got nothing');
  const subject = { tenant, kind: 'user', id: request.user } as const;
  const userRef = context.vault.find(subject);
  if (userRef === null) {
    const message = `no user "${request.user}" of tenant "${tenant}" is known: never recorded, or erased before`;
    throw new QuernError('NOT_FOUND', message, { reason: 'AUDIT_USER_UNKNOWN' });
  }
  await recordAccess(context, call.principal, { tenant, action: 'audit.erased', target: userRef });
  context.vault.erase(subject);
  return { userRef };
}
