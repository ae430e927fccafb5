// Approve and Deny: a person's answer to a call that waits. The role was checked by the gateway.
import type { ApproveRequest, ApproveResponse, DenyRequest, DenyResponse } from '#gen/quern/tools/v1/tools.ts';
import type { ToolsContext } from '../context.ts';
import { invalidField, ownerField, reasonField, sha256Field } from '../request-fields.ts';

export function approve({ approvals }: ToolsContext, { caller, approvalId, digest }: ApproveRequest): ApproveResponse {
  const by = ownerField(caller);
  const shown = sha256Field('digest', digest);
  if (shown === '') throw invalidField('digest', 'expected the 32 bytes of the ApprovalRequired event, got nothing');
  approvals.approve(approvalId, shown, by);
  return {};
}

export function deny({ approvals }: ToolsContext, request: DenyRequest): DenyResponse {
  const { caller, approvalId, reason, unattended = false } = request;
  approvals.deny(approvalId, reasonField(reason), ownerField(caller), unattended);
  return {};
}
