// The body of POST /v1/chat/completions and its way into the typed request.
import { z } from 'zod';
import { type ChatMessage, Role, type ToolDefinition } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { CALL_NAME_CHARS_MAX, LOGPROBS_MAX, MESSAGES_MAX, TOOLS_MAX } from '../limits.ts';
import { invalidArgument, type TypedRequest } from '../typed-request.ts';
import type { Exchange } from './exchange.ts';
import { count, samplingOf, sharedFields, sharedRequest } from './sampling-schema.ts';

const textPart = z.looseObject(
  { type: z.literal('text', { error: 'expected "text"; other kinds of content are not offered' }), text: z.string() },
  { error: 'expected {"type": "text", "text": "..."}' },
);
const text = z.union([z.string(), z.array(textPart)], { error: 'expected a string or an array of text parts' });
const name = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected 1..64 of [A-Za-z0-9_-]');
const toolCall = z.looseObject({
  id: z.string(),
  type: z.literal('function').nullish(),
  // A model may have made the name up, and some clients send the object: replaying a turn must not fail for it.
  function: z.looseObject({
    name: z.string().max(CALL_NAME_CHARS_MAX),
    arguments: z.union([z.string(), z.record(z.string(), z.unknown())], { error: 'expected a string of JSON' }),
  }),
});
const plain = <R extends string>(role: R) =>
  z.looseObject({ role: z.literal(role), content: text, name: name.nullish() });

const message = z.discriminatedUnion(
  'role',
  [
    plain('system'),
    plain('developer'),
    plain('user'),
    z.looseObject({
      role: z.literal('assistant'),
      content: text.nullish(),
      name: name.nullish(),
      reasoning_content: z.string().nullish(),
      tool_calls: z.array(toolCall).nullish(),
    }),
    z.looseObject({ role: z.literal('tool'), content: text, tool_call_id: z.string().nullish(), name: name.nullish() }),
  ],
  {
    error: (issue) =>
      issue.code === 'invalid_union' ? 'expected one of system, developer, user, assistant, tool' : undefined,
  },
);

const tool = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({
    name,
    description: z.string().nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
    strict: z.boolean().nullish(),
  }),
});

export const chatSchema = z.looseObject({
  ...sharedFields,
  messages: z.array(message).min(1).max(MESSAGES_MAX),
  max_tokens: count(0xffffffff).nullish(),
  max_completion_tokens: count(0xffffffff).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: count(LOGPROBS_MAX).nullish(),
  tools: z.array(tool).max(TOOLS_MAX).nullish(),
  tool_choice: z.unknown().optional(),
  tool_execution: z.enum(['client', 'server']).nullish(),
  session_id: z.string().nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  response_format: z.looseObject({ type: z.string() }).nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  add_generation_prompt: z.boolean().nullish(),
  continue_final_message: z.boolean().nullish(),
});

export type ChatBody = z.output<typeof chatSchema>;
type Message = z.output<typeof message>;

const ROLES: Record<Message['role'], Role> = {
  system: Role.ROLE_SYSTEM,
  developer: Role.ROLE_DEVELOPER,
  user: Role.ROLE_USER,
  assistant: Role.ROLE_ASSISTANT,
  tool: Role.ROLE_TOOL,
};

function contentText(content: Message['content']): string {
  if (typeof content === 'string') return content;
  return (content ?? []).map((part) => part.text).join('');
}

function argumentsText(given: string | Record<string, unknown>): string {
  return typeof given === 'string' ? given : JSON.stringify(given);
}

function chatMessage(given: Message): ChatMessage {
  const assistant = given.role === 'assistant' ? given : null;
  return {
    role: ROLES[given.role],
    content: contentText(given.content),
    reasoningContent: assistant?.reasoning_content ?? '',
    name: given.name ?? '',
    toolCalls: (assistant?.tool_calls ?? []).map((call) => ({
      id: call.id,
      name: call.function.name,
      argumentsJson: argumentsText(call.function.arguments),
    })),
    toolCallId: given.role === 'tool' ? (given.tool_call_id ?? '') : '',
  };
}

function toolDefinition({ function: fn }: z.output<typeof tool>): ToolDefinition {
  return {
    name: fn.name,
    description: fn.description ?? '',
    parametersSchemaJson: JSON.stringify(fn.parameters ?? { type: 'object', properties: {} }),
    strict: fn.strict ?? false,
  };
}

/** What OpenAI offers and this server does not is refused rather than ignored: the answer would be another one. */
function refuseUnsupported(body: ChatBody): void {
  const choice = body.tool_choice;
  if (choice !== undefined && choice !== null && choice !== 'auto' && choice !== 'none') {
    const description =
      'expected "auto" or "none"; a forced tool call needs constrained output, which is not offered yet';
    throw invalidArgument([{ field: 'tool_choice', description }]);
  }
  if (body.response_format && body.response_format.type !== 'text') {
    const given = String(body.response_format.type).slice(0, 64);
    const description = `expected {"type": "text"}, got "${given}"; constrained output is not offered yet`;
    throw invalidArgument([{ field: 'response_format.type', description }]);
  }
  if (typeof body.top_logprobs === 'number' && !body.logprobs) {
    throw invalidArgument([{ field: 'top_logprobs', description: 'expected "logprobs": true beside it' }]);
  }
}

export function typedChat(body: ChatBody, exchange: Exchange): TypedRequest {
  refuseUnsupported(body);
  const { enable_thinking: thinking, ...variables } = body.chat_template_kwargs ?? {};
  if (thinking !== undefined && typeof thinking !== 'boolean') {
    throw invalidArgument([
      { field: 'chat_template_kwargs.enable_thinking', description: `expected true or false, got ${typeof thinking}` },
    ]);
  }
  const continueFinalMessage = body.continue_final_message ?? false;
  return {
    ...sharedRequest(body, exchange),
    method: 'chat',
    prompt: {
      kind: 'chat',
      messages: body.messages.map(chatMessage),
      tools: body.tool_choice === 'none' ? [] : (body.tools ?? []).map(toolDefinition),
      enableThinking: thinking,
      templateVariables: Object.keys(variables).length > 0 ? variables : undefined,
      addGenerationPrompt: body.add_generation_prompt ?? !continueFinalMessage,
      continueFinalMessage,
      parallelToolCalls: body.parallel_tool_calls ?? true,
    },
    sampling: {
      ...samplingOf(body),
      maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
      logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
    },
    echo: false,
  };
}
