// Attach: a call's events from a number on, as Execute would have sent them.
import type { AttachRequest, AttachResponse } from '#gen/quern/tools/v1/tools.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import type { EventOut } from '../call-events.ts';
import type { ToolsContext } from '../context.ts';
import { callIdField, ownerField } from '../request-fields.ts';

export function attach(
  { executor }: ToolsContext,
  { caller, callId, afterSequence }: AttachRequest,
  call: CallContext,
  out: Out<AttachResponse>,
): Promise<void> {
  const events: EventOut = {
    write: (event) => out.write({ event }),
    drained: (signal) => out.drained(signal),
  };
  return executor.attach(ownerField(caller), callIdField(callId), afterSequence, events, call.signal);
}
