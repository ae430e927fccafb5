import type { InfillRequest, InfillResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import type { GatewayContext } from '../context.ts';
import { type StreamShape, streamGeneration } from './stream-sink.ts';
import { typedInfill } from './typed.ts';

const NO_FACTS = { family: '', droppedPrefixTokens: 0, droppedSuffixTokens: 0, droppedChunks: 0, maxPromptTokens: 0 };

const shape: StreamShape<InfillResponse> = {
  shared: (event) => ({ event }),
  end: (end) => ({ event: { $case: 'end', value: { end, ...(end.infill ?? NO_FACTS) } } }),
};

/** CompletionService.Infill: fill in the middle, streamed. */
export function infill(context: GatewayContext) {
  return (request: InfillRequest, call: CallContext, out: Out<InfillResponse>): Promise<void> =>
    streamGeneration(context, typedInfill(request, call), call, out, shape);
}
