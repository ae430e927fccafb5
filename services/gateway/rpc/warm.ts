import type { WarmRequest, WarmResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { invalidArgument } from '../typed-request.ts';
import { callerOf, typedInfill } from './typed.ts';

/** CompletionService.Warm: an infill that ends before its first token. */
export function warm(context: GatewayContext) {
  return async ({ infill }: WarmRequest, call: CallContext): Promise<WarmResponse> => {
    if (!infill) throw invalidArgument([{ field: 'infill', description: 'expected the infill to warm, got nothing' }]);
    const { options } = infill;
    const request = {
      ...typedInfill({ ...infill, options, stop: [], sampling: undefined }, call),
      modeStop: [],
      scope: null,
      softDeadlineMs: null,
    };
    const sampling = { ...request.sampling, maxTokens: 0 }; // the engine's word for prefill only, of the class WARM
    const { end } = await collect(context, { ...request, sampling }, callerOf(call));
    const { droppedPrefixTokens = 0, droppedSuffixTokens = 0, droppedChunks = 0 } = end.infill ?? {};
    return { end, droppedPrefixTokens, droppedSuffixTokens, droppedChunks };
  };
}
