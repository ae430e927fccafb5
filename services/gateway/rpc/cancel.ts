import type { CancelRequest, CancelResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { byAnswerId } from '../answer-id.ts';
import type { GatewayContext } from '../context.ts';

/** RequestService.Cancel: ends a running request of the same principal with finish reason CANCELLED. */
export function cancel(context: GatewayContext) {
  return ({ requestId }: CancelRequest, call: CallContext): CancelResponse => {
    const running = byAnswerId(requestId, (id) => context.requests.find(call.principal, id));
    running?.cancel(new QuernError('CANCELLED', 'cancelled by RequestService.Cancel'));
    return { cancelled: running !== null };
  };
}
