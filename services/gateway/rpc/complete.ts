import type { CompleteRequest, CompleteResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { callerOf, typedComplete } from './typed.ts';

/** CompletionService.Complete: the whole answer at once. */
export function complete(context: GatewayContext) {
  return (request: CompleteRequest, call: CallContext): Promise<CompleteResponse> =>
    collect(context, typedComplete(request, call), callerOf(call));
}
