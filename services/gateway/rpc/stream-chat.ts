import type { StreamChatRequest, StreamChatResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import type { GatewayContext } from '../context.ts';
import { type StreamShape, streamGeneration } from './stream-sink.ts';
import { typedChat } from './typed.ts';

const shape: StreamShape<StreamChatResponse> = {
  shared: (event) => ({ event }),
  end: (value) => ({ event: { $case: 'end', value } }),
};

/** ChatService.StreamChat. */
export function streamChat(context: GatewayContext) {
  return ({ request }: StreamChatRequest, call: CallContext, out: Out<StreamChatResponse>): Promise<void> =>
    streamGeneration(context, typedChat(request, call), call, out, shape);
}
