import type { ChatChoice, ChatRequest, ChatResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { type CollectedChoice, collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { callerOf, typedChat } from './typed.ts';

function chatChoice({ text, reasoning, invalidCalls, ...choice }: CollectedChoice): ChatChoice {
  const invalidToolCalls = invalidCalls.map(({ index, ...call }) => ({ ...call, callIndex: index ?? undefined }));
  return { ...choice, content: text, reasoningContent: reasoning, invalidToolCalls };
}

/** ChatService.Chat: the whole answer at once. */
export function chat(context: GatewayContext) {
  return async (request: ChatRequest, call: CallContext): Promise<ChatResponse> => {
    const { choices, end, promptTokenIds } = await collect(context, typedChat(request, call), callerOf(call));
    return { choices: choices.map(chatChoice), end, promptTokenIds };
  };
}
