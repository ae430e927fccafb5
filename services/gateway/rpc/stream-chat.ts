import type { StreamChatRequest, StreamChatResponse, ToolCallDelta } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import type { GatewayContext } from '../context.ts';
import { type StreamShape, streamGeneration } from './stream-sink.ts';
import { typedChat } from './typed.ts';

type Part = Parameters<NonNullable<StreamShape<StreamChatResponse>['part']>>[1];

function callPart(part: Exclude<Part, { kind: 'reasoning' }>): ToolCallDelta['part'] {
  if (part.kind === 'invalid_call') {
    const { index, text, reason } = part;
    return { $case: 'invalid', value: { callIndex: index ?? undefined, text, reason } };
  }
  const callIndex = part.index;
  switch (part.kind) {
    case 'call_start':
      return { $case: 'started', value: { callIndex, id: part.id, name: part.name } };
    case 'arguments':
      return { $case: 'arguments', value: { callIndex, text: part.text } };
    case 'call_end':
      return { $case: 'ended', value: { callIndex, argumentsJson: part.arguments } };
  }
}

const shape: StreamShape<StreamChatResponse> = {
  part(index, part) {
    if (part.kind === 'reasoning') return { event: { $case: 'reasoning', value: { index, text: part.text } } };
    return { event: { $case: 'toolCall', value: { index, part: callPart(part) } } };
  },
  shared: (event) => ({ event }),
  end: (value) => ({ event: { $case: 'end', value } }),
};

/** ChatService.StreamChat. */
export function streamChat(context: GatewayContext) {
  return ({ request }: StreamChatRequest, call: CallContext, out: Out<StreamChatResponse>): Promise<void> =>
    streamGeneration(context, typedChat(request, call), call, out, shape);
}
