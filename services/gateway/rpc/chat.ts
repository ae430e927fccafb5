import type { ChatRequest, ChatResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { callerOf, typedChat } from './typed.ts';

/** ChatService.Chat: the whole answer at once. */
export function chat(context: GatewayContext) {
  return async (request: ChatRequest, call: CallContext): Promise<ChatResponse> => {
    const { choices, end, promptTokenIds } = await collect(context, typedChat(request, call), callerOf(call));
    return { choices: choices.map(({ text, ...choice }) => ({ ...choice, content: text })), end, promptTokenIds };
  };
}
