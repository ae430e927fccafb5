// The messages that a run adds to its conversation.
import { hash } from 'node:crypto';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { CallResult, CallSpec } from './tool-call.ts';

export function textMessage(role: Role, content: string): ChatMessage {
  return { role, content, reasoningContent: '', name: '', toolCalls: [], toolCallId: '' };
}

/** A call's id as templates get it: nine letters and digits, since some take no others. */
export function templateId(callId: string): string {
  return hash('sha256', callId, 'hex').slice(0, 9);
}

/** What the model said in a turn, with the calls it made. */
export function assistantMessage(
  said: { content: string; reasoning: string },
  calls: readonly CallSpec[],
): ChatMessage {
  return {
    ...textMessage(Role.ROLE_ASSISTANT, said.content),
    reasoningContent: said.reasoning,
    toolCalls: calls.map(({ callId, tool, argumentsJson }) => ({ id: templateId(callId), name: tool, argumentsJson })),
  };
}

/** Untrusted text: the tokenizer makes no control token of it. */
export function resultMessage({ callId }: CallSpec, { content }: CallResult): ChatMessage {
  return { ...textMessage(Role.ROLE_TOOL, content), toolCallId: templateId(callId) };
}
