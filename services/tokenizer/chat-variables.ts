// A RenderChat request as the variables of a chat template, with a guard over every untrusted string.
import type { ChatMessage, RenderChatRequest, ToolCall } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { type CallShape, type JsonValue, RESERVED_VARIABLES, type TemplateVariables } from './chat-template.ts';
import type { Guard, Origin } from './injection-guard.ts';
import {
  CALL_NAME_CHARS_MAX,
  MESSAGES_MAX,
  NAME_CHARS_MAX,
  TOOL_CALLS_PER_MESSAGE_MAX,
  TOOLS_MAX,
  VALUE_COUNT_MAX,
  VALUE_DEPTH_MAX,
} from './limits.ts';

type ParsedCall = { id: string; name: string; text: string; value: { [key: string]: JsonValue } | null };
type ParsedMessage = ChatMessage & { calls: ParsedCall[] };
type ParsedTool = { name: string; description: string; strict: boolean; parameters: { [key: string]: JsonValue } };

/** A request whose sizes, names and JSON were checked. */
export type Conversation = {
  readonly messages: readonly ParsedMessage[];
  readonly tools: readonly ParsedTool[];
  readonly variables: TemplateVariables;
  readonly addGenerationPrompt: boolean;
  readonly continueFinalMessage: boolean;
  /** Some call's arguments are no JSON object. */
  readonly hasBrokenArguments: boolean;
};

export function invalid(field: string, description: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, {
    reason: 'FIELD_INVALID',
    fields: [{ field, description }],
  });
}

const NAME = new RegExp(`^[A-Za-z0-9_-]{1,${NAME_CHARS_MAX}}$`);
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;

/** Messages of errors reach logs, so they never quote a caller's text. */
function checkName(name: string, field: string): void {
  if (NAME.test(name)) return;
  const got = name === '' || name.length > NAME_CHARS_MAX ? `${name.length} of them` : 'others among them';
  throw invalid(field, `expected 1..${NAME_CHARS_MAX} characters of A-Z a-z 0-9 _ -, got ${got}; correct it`);
}

/** Counts values and refuses deep or many ones; one per request. */
class ValueMeter {
  #count = 0;

  check(value: JsonValue, field: string, depth = 1): void {
    this.#count += 1;
    if (this.#count > VALUE_COUNT_MAX) {
      throw invalid(
        field,
        `expected at most ${VALUE_COUNT_MAX} values in schemas, arguments and variables, got more; send less`,
      );
    }
    if (depth > VALUE_DEPTH_MAX)
      throw invalid(field, `expected at most ${VALUE_DEPTH_MAX} levels of nesting, got more; flatten it`);
    if (typeof value !== 'object' || value === null) return;
    for (const child of Object.values(value)) this.check(child, field, depth + 1);
  }
}

function isObject(value: unknown): value is { [key: string]: JsonValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Levels of nesting; what is deeper than can be sent counts as one more than allowed. */
function depthOf(value: JsonValue, depth = 1): number {
  if (typeof value !== 'object' || value === null || depth > VALUE_DEPTH_MAX) return depth;
  return Math.max(depth, ...Object.values(value).map((child) => depthOf(child, depth + 1)));
}

function parseCall(call: ToolCall, field: string, meter: ValueMeter): ParsedCall {
  // A model may have called a tool that does not exist, under any name: the turn is replayed as it was.
  if (call.name.length > CALL_NAME_CHARS_MAX) {
    throw invalid(
      `${field}.name`,
      `expected at most ${CALL_NAME_CHARS_MAX} characters, got ${call.name.length}; cut it`,
    );
  }
  let value: unknown;
  try {
    value = call.argumentsJson.trim() === '' ? {} : JSON.parse(call.argumentsJson);
  } catch {
    value = null; // a model's own half-written call, replayed: passed on as the text it is
  }
  if (!isObject(value) || depthOf(value) > VALUE_DEPTH_MAX)
    return { id: call.id, name: call.name, text: call.argumentsJson, value: null };
  meter.check(value, `${field}.arguments_json`);
  return { id: call.id, name: call.name, text: call.argumentsJson, value };
}

function parseMessage(message: ChatMessage, index: number, meter: ValueMeter): ParsedMessage {
  const field = `messages[${index}]`;
  if (message.name !== '') checkName(message.name, `${field}.name`);
  if (!(message.role in ROLE_NAMES)) throw invalid(`${field}.role`, `expected a role, got ${message.role}; set it`);
  if (message.toolCalls.length > TOOL_CALLS_PER_MESSAGE_MAX) {
    throw invalid(
      `${field}.tool_calls`,
      `expected at most ${TOOL_CALLS_PER_MESSAGE_MAX}, got ${message.toolCalls.length}; send fewer`,
    );
  }
  if (message.toolCalls.length > 0 && message.role !== Role.ROLE_ASSISTANT) {
    throw invalid(`${field}.tool_calls`, 'expected only in assistant turns; remove them or set the role');
  }
  const calls = message.toolCalls.map((call, at) => parseCall(call, `${field}.tool_calls[${at}]`, meter));
  return { ...message, calls };
}

function parseTools(request: RenderChatRequest, meter: ValueMeter): ParsedTool[] {
  if (request.tools.length > TOOLS_MAX) {
    throw invalid('tools', `expected at most ${TOOLS_MAX}, got ${request.tools.length}; send fewer`);
  }
  return request.tools.map(({ name, description, parametersSchemaJson, strict }, index) => {
    const field = `tools[${index}]`;
    checkName(name, `${field}.name`);
    let parameters: unknown = { type: 'object', properties: {} };
    try {
      if (parametersSchemaJson.trim() !== '') parameters = JSON.parse(parametersSchemaJson);
    } catch {
      throw invalid(`${field}.parameters_schema_json`, 'expected JSON, got text that does not parse; correct it');
    }
    if (!isObject(parameters))
      throw invalid(`${field}.parameters_schema_json`, 'expected a JSON object; send a JSON Schema');
    meter.check(parameters, `${field}.parameters_schema_json`);
    return { name, description, strict, parameters };
  });
}

function parseVariables(request: RenderChatRequest, meter: ValueMeter): TemplateVariables {
  const variables = (request.templateVariables ?? {}) as TemplateVariables;
  for (const [name, value] of Object.entries(variables)) {
    const field = `template_variables.${name}`;
    if (!VARIABLE.test(name))
      throw invalid('template_variables', 'expected names like date_string, got one with other characters; rename it');
    if (RESERVED_VARIABLES.has(name))
      throw invalid(field, 'expected a name that is not one of our own; use the field of the request, or rename it');
    meter.check(value, field);
  }
  return variables;
}

/** Checks everything that has a bound or a form. Throws INVALID_ARGUMENT with the field's path. */
export function parseConversation(request: RenderChatRequest): Conversation {
  const { messages } = request;
  if (messages.length === 0 || messages.length > MESSAGES_MAX) {
    throw invalid('messages', `expected 1..${MESSAGES_MAX}, got ${messages.length}; send at least the user's turn`);
  }
  const continues = request.continueFinalMessage;
  if (continues && request.addGenerationPrompt === true) {
    throw invalid('continue_final_message', 'expected without add_generation_prompt, got both; choose one');
  }
  if (continues && messages.at(-1)!.role !== Role.ROLE_ASSISTANT) {
    throw invalid('continue_final_message', 'expected the last message to be an assistant turn; append it');
  }
  const meter = new ValueMeter();
  const parsed = messages.map((message, index) => parseMessage(message, index, meter));
  const variables = { ...parseVariables(request, meter) };
  if (request.enableThinking !== undefined) variables.enable_thinking = request.enableThinking;
  return {
    messages: parsed,
    tools: parseTools(request, meter),
    variables,
    addGenerationPrompt: !continues && (request.addGenerationPrompt ?? true),
    continueFinalMessage: continues,
    hasBrokenArguments: parsed.some((message) => message.calls.some((call) => call.value === null)),
  };
}

const ROLE_NAMES: Partial<Record<Role, string>> = {
  [Role.ROLE_SYSTEM]: 'system',
  [Role.ROLE_USER]: 'user',
  [Role.ROLE_ASSISTANT]: 'assistant',
  [Role.ROLE_TOOL]: 'tool',
  [Role.ROLE_DEVELOPER]: 'developer',
};

/** Every string and key of `value` through the guard. Keys may be "__proto__", so entries, never assignment. */
function guarded(value: JsonValue, guard: Guard, origin: Origin): JsonValue {
  if (typeof value === 'string') return guard(value, origin);
  if (Array.isArray(value)) return value.map((item) => guarded(item, guard, origin));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [guard(key, origin), guarded(child, guard, origin)]),
  );
}

export type VariableOptions = {
  guard: Guard;
  shape: CallShape;
  /** The template knows the role "developer"; else such a message is a system message to it. */
  knowsDeveloper: boolean;
  /** Broken arguments as { arguments: text }, for templates that need a mapping. */
  wrapBroken: boolean;
  /** Appended to the last message's content. */
  end: string;
};

function argumentsOf(call: ParsedCall, { guard, shape, wrapBroken }: VariableOptions): JsonValue {
  if (call.value === null) {
    const text = guard(call.text, 'message');
    return wrapBroken ? { arguments: text } : text;
  }
  return shape.callArguments === 'text' ? guard(call.text, 'message') : guarded(call.value, guard, 'message');
}

function messageVariables(message: ParsedMessage, isLast: boolean, options: VariableOptions): JsonValue {
  const { guard, shape } = options;
  const role = message.role === Role.ROLE_DEVELOPER && !options.knowsDeveloper ? 'system' : ROLE_NAMES[message.role]!;
  const content = guard(message.content, 'message') + (isLast ? options.end : '');
  const turn: { [key: string]: JsonValue } = {
    role,
    content: content === '' && message.calls.length > 0 ? shape.emptyContent : content,
  };
  if (message.reasoningContent !== '') turn.reasoning_content = guard(message.reasoningContent, 'message');
  if (message.name !== '') turn.name = guard(message.name, 'message');
  if (message.toolCallId !== '') turn.tool_call_id = guard(message.toolCallId, 'message');
  if (message.calls.length > 0) {
    turn.tool_calls = message.calls.map((call) => ({
      id: guard(call.id, 'message'),
      type: 'function',
      function: { name: guard(call.name, 'message'), arguments: argumentsOf(call, options) },
    }));
  }
  return turn;
}

/** The template's variables, in the shapes that transformers' apply_chat_template gives them. */
export function templateVariables(conversation: Conversation, options: VariableOptions): TemplateVariables {
  const { guard } = options;
  const { messages, tools, variables } = conversation;
  const functions = tools.map(({ name, description, parameters, strict }) => ({
    type: 'function',
    function: {
      name: guard(name, 'tool'),
      description: guard(description, 'tool'),
      parameters: guarded(parameters, guard, 'tool'),
      ...(strict && { strict }),
    },
  }));
  const own = Object.entries(variables).map(([name, value]) => [name, guarded(value, guard, 'variable')] as const);
  return {
    ...Object.fromEntries(own),
    messages: messages.map((message, index) => messageVariables(message, index === messages.length - 1, options)),
    tools: functions.length > 0 ? functions : null,
    add_generation_prompt: conversation.addGenerationPrompt,
  };
}
