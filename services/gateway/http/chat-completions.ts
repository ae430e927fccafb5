// POST /v1/chat/completions.
import type { TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import { type Collected, type CollectedChoice, collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import { type ChatBody, chatSchema, typedChat } from './chat-schema.ts';
import { callerOf, type Handler, sendJson } from './exchange.ts';
import {
  chatLogprobs,
  endParts,
  finishReasonText,
  promptLogprobsObject,
  stopReason,
  timingsField,
} from './openai-objects.ts';
import { serverToolsChat } from './server-tools-chat.ts';
import { EventStream } from './sse.ts';
import { type StreamShape, streamAnswer } from './stream-answer.ts';
import { readFields } from './unknown-fields.ts';

export function chatCompletions(context: GatewayContext): Handler {
  return async (exchange) => {
    const body = readFields(chatSchema, exchange);
    const request = typedChat(body, exchange);
    const base = {
      id: `chatcmpl-${request.requestId}`,
      object: body.stream ? 'chat.completion.chunk' : 'chat.completion',
      created: Math.floor(Date.now() / 1000),
      model: context.models.resolve(request.model).name,
    };
    if (body.tool_execution === 'server' && body.tool_choice !== 'none') {
      const withUsage = body.stream_options?.include_usage ?? false;
      const chat = { request, base, stream: body.stream ?? false, withUsage, sessionId: body.session_id ?? '' };
      await serverToolsChat(context, exchange, chat);
      return;
    }
    const headers = { 'x-request-id': request.requestId };
    if (body.stream) {
      const events = new EventStream(exchange.response, headers);
      await streamAnswer(context, [request], exchange, events, createShape(base, body));
      return;
    }
    const collected = await collect(context, request, callerOf(exchange));
    sendJson(exchange.response, { ...base, ...answerParts(collected, body) }, headers);
  };
}

type CallPart = Parameters<NonNullable<StreamShape['part']>>[1];

function messageObject({ text, reasoning, toolCalls, invalidCalls }: CollectedChoice) {
  return {
    role: 'assistant',
    content: text === '' && toolCalls.length > 0 ? null : text,
    refusal: null,
    ...(reasoning !== '' && { reasoning_content: reasoning }),
    ...(toolCalls.length > 0 && {
      tool_calls: toolCalls.map(({ id, name, argumentsJson }) => ({
        id,
        type: 'function',
        function: { name, arguments: argumentsJson },
      })),
    }),
    ...(invalidCalls.length > 0 && { invalid_tool_calls: invalidCalls }),
  };
}

/** What a chunk's delta holds of it; null: nothing. */
function deltaOf(part: CallPart): object | null {
  switch (part.kind) {
    case 'reasoning':
      return { reasoning_content: part.text };
    case 'call_start': {
      const { index, id, name } = part;
      return { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] };
    }
    case 'arguments':
      return { tool_calls: [{ index: part.index, function: { arguments: part.text } }] };
    case 'call_end':
      return null;
    case 'invalid_call':
      return { content: part.text, invalid_tool_call: { index: part.index, reason: part.reason } };
  }
}

function answerParts({ choices, end, promptLogprobs, promptTokenIds }: Collected, body: ChatBody) {
  return {
    choices: choices.map((choice) => ({
      index: choice.index,
      message: messageObject(choice),
      logprobs: body.logprobs ? chatLogprobs(choice.logprobs) : null,
      finish_reason: finishReasonText(choice.finishReason, choice.toolCalls.length > 0),
      stop_reason: stopReason(choice.stopString, choice.stopTokenId),
      ...(body.return_token_ids && { token_ids: choice.tokenIds }),
    })),
    ...endParts([end]),
    ...(typeof body.prompt_logprobs === 'number' && { prompt_logprobs: promptLogprobsObject(promptLogprobs) }),
    ...(body.return_token_ids && { prompt_token_ids: promptTokenIds }),
  };
}

type Base = { id: string; object: string; created: number; model: string };

/** Chunks with their constant parts written once. The first event of a choice carries its role, the first of all the prompt's ids. */
function createShape(base: Base, body: ChatBody): StreamShape {
  const head = JSON.stringify(base).slice(0, -1);
  const withUsage = body.stream_options?.include_usage ?? false;
  const tail = `${withUsage ? ',"usage":null' : ''}}\n\n`;
  const start = `data: ${head},"choices":[{"index":`;
  const plainEnd = `},"logprobs":null,"finish_reason":null}]${tail}`;
  const opened = new Set<number>();
  let promptEntries: TextLogprobs[] | null = null;
  let promptIds: readonly number[] = [];
  const called = new Set<number>();
  const open = (index: number, content = '""'): string => {
    if (opened.has(index)) return '';
    const ids = body.return_token_ids && opened.size === 0 ? `,"prompt_token_ids":${JSON.stringify(promptIds)}` : '';
    opened.add(index);
    return `${start}${index},"delta":{"role":"assistant","content":${content}},"logprobs":null,"finish_reason":null}]${ids}${tail}`;
  };
  return {
    withUsage,
    promptTokenIds(_prompt, tokenIds) {
      promptIds = tokenIds;
    },
    promptLogprobs(_prompt, entries) {
      promptEntries = entries;
    },
    delta(index, text, logprobs, tokenIds) {
      const first = open(index);
      const content = `${start}${index},"delta":{"content":${JSON.stringify(text)}`;
      if (!body.logprobs && tokenIds.length === 0) return `${first}${content}${plainEnd}`;
      const shown = body.logprobs ? JSON.stringify(chatLogprobs(logprobs)) : 'null';
      const ids = body.return_token_ids ? `,"token_ids":${JSON.stringify(tokenIds)}` : '';
      return `${first}${content}},"logprobs":${shown},"finish_reason":null${ids}}]${tail}`;
    },
    part(index, part) {
      if (part.kind === 'call_end') called.add(index);
      const delta = deltaOf(part);
      if (delta === null) return '';
      return `${open(index, 'null')}${start}${index},"delta":${JSON.stringify(delta).slice(0, -1)}${plainEnd}`;
    },
    finished(index, reason, stop, ends) {
      const why = `"finish_reason":"${finishReasonText(reason, called.has(index))}","stop_reason":${JSON.stringify(stop)}`;
      const ids = body.return_token_ids ? ',"token_ids":[]' : '';
      return `${open(index)}${start}${index},"delta":{},"logprobs":null,${why}${ids}}]${ends ? timingsField(ends) : ''}${tail}`;
    },
    end(ends) {
      const extras = promptEntries ? `,"prompt_logprobs":${JSON.stringify(promptLogprobsObject(promptEntries))}` : '';
      if (!withUsage && extras === '') return '';
      return `data: ${head},"choices":[],${JSON.stringify(endParts(ends)).slice(1, -1)}${extras}}\n\n`;
    },
  };
}
