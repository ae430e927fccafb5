import type { StreamCompleteRequest, StreamCompleteResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import type { GatewayContext } from '../context.ts';
import { type StreamShape, streamGeneration } from './stream-sink.ts';
import { typedComplete } from './typed.ts';

const shape: StreamShape<StreamCompleteResponse> = {
  shared: (event) => ({ event }),
  end: (value) => ({ event: { $case: 'end', value } }),
  promptLogprobs: (logprobs) => ({ event: { $case: 'promptLogprobs', value: { logprobs } } }),
};

/** CompletionService.StreamComplete. */
export function streamComplete(context: GatewayContext) {
  return ({ request }: StreamCompleteRequest, call: CallContext, out: Out<StreamCompleteResponse>): Promise<void> =>
    streamGeneration(context, typedComplete(request, call), call, out, shape);
}
