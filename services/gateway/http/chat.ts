// POST /chat {"input_text"} -> {"reply"}: one question, one answer, for scripts.
import { z } from 'zod';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { CHAT_REPLY_TOKENS_DEFAULT } from '../limits.ts';
import type { TypedRequest } from '../typed-request.ts';
import { callerOf, type Handler, sendJson } from './exchange.ts';
import { count, samplingOf, sharedFields, sharedRequest } from './sampling-schema.ts';
import { readFields } from './unknown-fields.ts';

const schema = z.looseObject({ ...sharedFields, input_text: z.string(), max_tokens: count(0xffffffff, 1).nullish() });

export function chat(context: GatewayContext): Handler {
  return async (exchange) => {
    const body = readFields(schema, exchange);
    const { contextLength = 0 } = context.models.description(context.models.resolve(body.model ?? '')) ?? {};
    // The default may not turn a question that fits into one that does not.
    const fallback = contextLength >= 2 * CHAT_REPLY_TOKENS_DEFAULT ? CHAT_REPLY_TOKENS_DEFAULT : undefined;
    const question = {
      role: Role.ROLE_USER,
      content: body.input_text,
      reasoningContent: '',
      name: '',
      toolCalls: [],
      toolCallId: '',
    };
    const request: TypedRequest = {
      ...sharedRequest(body, exchange),
      method: 'chat',
      prompt: {
        kind: 'chat',
        messages: [question],
        tools: [],
        enableThinking: undefined,
        templateVariables: undefined,
        addGenerationPrompt: true,
        continueFinalMessage: false,
      },
      sampling: { ...samplingOf(body), maxTokens: body.max_tokens ?? fallback, n: 1 },
      echo: false,
    };
    const { choices, end } = await collect(context, request, callerOf(exchange));
    sendJson(exchange.response, { reply: choices[0]?.text ?? '' }, { 'x-request-id': end.requestId });
  };
}
