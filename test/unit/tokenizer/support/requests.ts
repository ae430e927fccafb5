// RenderChat requests with every field, from the few that matter to a test.
import {
  type ChatMessage,
  type RenderChatRequest,
  Role,
  type ToolDefinition,
} from '../../../../services/gen/quern/tokenizer/v1/tokenizer.ts';

export function message(role: Role, content: string, rest: Partial<ChatMessage> = {}): ChatMessage {
  return { role, content, reasoningContent: '', name: '', toolCalls: [], toolCallId: '', ...rest };
}

export const user = (content: string): ChatMessage => message(Role.ROLE_USER, content);
export const system = (content: string): ChatMessage => message(Role.ROLE_SYSTEM, content);
export const assistant = (content: string, rest: Partial<ChatMessage> = {}): ChatMessage =>
  message(Role.ROLE_ASSISTANT, content, rest);

export function tool(name: string, description: string, schema: unknown): ToolDefinition {
  return { name, description, parametersSchemaJson: JSON.stringify(schema), strict: false };
}

export function chatRequest(messages: ChatMessage[], rest: Partial<RenderChatRequest> = {}): RenderChatRequest {
  return { model: '', messages, tools: [], templateVariables: undefined, continueFinalMessage: false, ...rest };
}

type GoldenCase = {
  name: string;
  add_generation_prompt?: boolean;
  messages: {
    role: string;
    content: string;
    name?: string;
    tool_call_id?: string;
    tool_calls?: { id: string; name: string; arguments: unknown }[];
  }[];
  tools?: { name: string; description: string; parameters: unknown }[];
};

const ROLES: Record<string, Role> = {
  system: Role.ROLE_SYSTEM,
  user: Role.ROLE_USER,
  assistant: Role.ROLE_ASSISTANT,
  tool: Role.ROLE_TOOL,
};

/** A case of test/golden/tokenizer/chat-cases.json as a request. */
export function goldenRequest(one: GoldenCase): RenderChatRequest {
  const messages = one.messages.map((turn) =>
    message(ROLES[turn.role]!, turn.content, {
      name: turn.name ?? '',
      toolCallId: turn.tool_call_id ?? '',
      toolCalls: (turn.tool_calls ?? []).map((call) => ({
        id: call.id,
        name: call.name,
        argumentsJson: JSON.stringify(call.arguments),
      })),
    }),
  );
  return chatRequest(messages, {
    tools: (one.tools ?? []).map(({ name, description, parameters }) => tool(name, description, parameters)),
    ...(one.add_generation_prompt !== undefined && { addGenerationPrompt: one.add_generation_prompt }),
  });
}
