// RenderChat: messages and tools through the model's chat template to ids.
import type { RenderChatRequest, RenderChatResponse } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { parseConversation } from '../chat-variables.ts';
import type { TokenizerContext } from '../context.ts';

function* textsOf(request: RenderChatRequest): Generator<string> {
  for (const message of request.messages) {
    yield message.content;
    yield message.reasoningContent;
    yield message.toolCallId;
    for (const call of message.toolCalls) yield* [call.id, call.argumentsJson];
  }
  for (const tool of request.tools) yield* [tool.description, tool.parametersSchemaJson];
  if (request.templateVariables) yield JSON.stringify(request.templateVariables);
}

export function renderChat(context: TokenizerContext, request: RenderChatRequest): RenderChatResponse {
  const model = context.models.get(request.model);
  if (!model.chat) {
    const message = `model "${model.name}" has no chat template; use Encode or RenderInfill, or put chat_template.jinja beside it`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'CHAT_UNSUPPORTED' });
  }
  context.checkTexts(model, 'messages', textsOf(request));
  const prompt = model.chat.render(parseConversation(request));
  context.countTokens('RenderChat', prompt.ids.length);
  return { tokenIds: [...prompt.ids], publicPrefixTokens: prompt.publicPrefixTokens };
}
