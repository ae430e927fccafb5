// Cancel: ends a running call of the same user.
import type { CancelRequest, CancelResponse } from '#gen/quern/tools/v1/tools.ts';
import type { ToolsContext } from '../context.ts';
import { callIdField, ownerField } from '../request-fields.ts';

export function cancel({ executor }: ToolsContext, { caller, callId }: CancelRequest): CancelResponse {
  return { wasRunning: executor.cancel(ownerField(caller), callIdField(callId)) };
}
