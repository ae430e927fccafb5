// POST /v1/completions: OpenAI's legacy completions with vLLM's additions. `suffix` makes it fill in the middle.
import { z } from 'zod';
import type { TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import { ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import { type Collected, collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import {
  COMPLETION_TOKENS_DEFAULT,
  LOGPROBS_MAX,
  PROMPTS_MAX,
  REQUEST_ID_CHARS_MAX,
  STOP_STRINGS_INFILL_MAX,
  STOP_STRINGS_MAX,
} from '../limits.ts';
import { invalidArgument, type Prompt, type TypedRequest } from '../typed-request.ts';
import { callerOf, type Exchange, type Handler, sendJson } from './exchange.ts';
import {
  endParts,
  finishReasonText,
  legacyLogprobs,
  promptLogprobsObject,
  stopReason,
  timingsField,
} from './openai-objects.ts';
import { count, samplingOf, sharedFields, sharedRequest, stopField, tokenId } from './sampling-schema.ts';
import { EventStream } from './sse.ts';
import { type StreamShape, streamAnswer } from './stream-answer.ts';
import { isTabbyBody, tabbyCompletions } from './tabby-completions.ts';
import { readFields } from './unknown-fields.ts';

const ids = z.array(tokenId).min(1);

const schema = z.looseObject({
  ...sharedFields,
  // OpenAI's bound. Who sends more are editors with the control tokens of every family, which /infill does not need.
  stop: stopField(STOP_STRINGS_MAX, `, or fill in by POST /infill, which takes ${STOP_STRINGS_INFILL_MAX}`),
  prompt: z.union(
    [z.string(), ids, z.array(z.string()).min(1).max(PROMPTS_MAX), z.array(ids).min(1).max(PROMPTS_MAX)],
    {
      error: 'expected a string, an array of strings, an array of token ids or an array of such arrays',
    },
  ),
  suffix: z.string().nullish(),
  max_tokens: count(0xffffffff).nullish(),
  logprobs: count(LOGPROBS_MAX).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.int().min(1).nullish(),
  add_special_tokens: z.boolean().nullish(),
  parse_special: z.enum(['none', 'fim', 'all']).nullish(),
});

type Body = z.output<typeof schema>;

const PARSE = {
  none: ParseSpecial.PARSE_SPECIAL_NONE,
  fim: ParseSpecial.PARSE_SPECIAL_FIM,
  all: ParseSpecial.PARSE_SPECIAL_ALL,
} as const;

function refuse(field: string, description: string): never {
  throw invalidArgument([{ field, description }]);
}

function promptsOf(body: Body): Prompt[] {
  const given = body.prompt;
  const parseSpecial = PARSE[body.parse_special ?? 'all'];
  const one = (prompt: string | number[]): Prompt => {
    if (typeof body.suffix === 'string') {
      if (typeof prompt !== 'string')
        return refuse('suffix', 'expected a prompt given as text beside it, got token ids');
      return { kind: 'infill', prefix: prompt, suffix: body.suffix, path: '', repository: '', chunks: [] };
    }
    if (typeof prompt !== 'string') return { kind: 'token_ids', tokenIds: prompt };
    return { kind: 'text', text: prompt, parseSpecial, addBos: body.add_special_tokens ?? true };
  };
  if (typeof given === 'string') return [one(given)];
  return typeof given[0] === 'number' ? [one(given as number[])] : (given as (string | number[])[]).map(one);
}

/** One request per prompt, each with an id of its own below `requestId`: for the engine they are apart. */
function requestsOf(body: Body, exchange: Exchange, requestId: string): TypedRequest[] {
  const n = body.n ?? 1;
  if (body.best_of !== undefined && body.best_of !== null && body.best_of !== n) {
    refuse('best_of', `expected the same as n (${n}), got ${body.best_of}; best_of above n is not offered`);
  }
  const shared = sharedRequest(body, exchange);
  const sampling = {
    ...samplingOf(body),
    maxTokens: body.max_tokens ?? COMPLETION_TOKENS_DEFAULT,
    logprobs: body.logprobs ?? undefined,
  };
  const prompts = promptsOf(body);
  return prompts.map((prompt, i) => ({
    ...shared,
    method: prompt.kind === 'infill' ? 'infill' : 'complete',
    prompt,
    sampling,
    echo: body.echo ?? false,
    requestId: prompts.length === 1 ? requestId : `${requestId.slice(0, REQUEST_ID_CHARS_MAX - 4)}:${i}`,
  }));
}

export function completions(context: GatewayContext): Handler {
  return async (exchange) => {
    if (isTabbyBody(exchange.body)) return tabbyCompletions(context, exchange);
    const body = readFields(schema, exchange);
    const requestId = body.request_id ?? exchange.requestId;
    const requests = requestsOf(body, exchange, requestId);
    const model = context.models.resolve(body.model ?? '').name;
    const base = { id: `cmpl-${requestId}`, object: 'text_completion', created: Math.floor(Date.now() / 1000), model };
    const headers = { 'x-request-id': requestId };
    if (body.stream) {
      const shape = createShape(base, body);
      await streamAnswer(context, requests, exchange, new EventStream(exchange.response, headers), shape);
      return;
    }
    const collected = await collectAll(context, requests, exchange);
    const choices = collected.flatMap((one, i) => choiceObjects(one, i * (body.n ?? 1), body));
    sendJson(exchange.response, { ...base, choices, ...endParts(collected.map((one) => one.end)) }, headers);
  };
}

/** All prompts at once; the first failure cancels the others. */
async function collectAll(
  context: GatewayContext,
  requests: readonly TypedRequest[],
  exchange: Exchange,
): Promise<Collected[]> {
  const caller = callerOf(exchange);
  const [only] = requests;
  if (requests.length === 1 && only) return [await collect(context, only, caller)];
  const stop = new AbortController();
  const signal = AbortSignal.any([caller.signal, stop.signal]);
  const running = requests.map((request) => collect(context, request, { ...caller, signal }));
  try {
    return await Promise.all(running);
  } catch (error) {
    stop.abort(new QuernError('CANCELLED', 'another prompt of this request failed'));
    await Promise.allSettled(running);
    throw error;
  }
}

function choiceObjects(collected: Collected, firstIndex: number, body: Body) {
  return collected.choices.map((choice) => ({
    index: firstIndex + choice.index,
    text: choice.text,
    logprobs: typeof body.logprobs === 'number' ? legacyLogprobs(choice.logprobs) : null,
    finish_reason: finishReasonText(choice.finishReason),
    stop_reason: stopReason(choice.stopString, choice.stopTokenId),
    ...(typeof body.prompt_logprobs === 'number' && {
      prompt_logprobs: promptLogprobsObject(collected.promptLogprobs),
    }),
    ...(body.return_token_ids && { token_ids: choice.tokenIds, prompt_token_ids: collected.promptTokenIds }),
  }));
}

type Base = { id: string; object: string; created: number; model: string };

/** Chunks with their constant parts written once: per token only the index and the text are new. */
function createShape(base: Base, body: Body): StreamShape {
  const head = JSON.stringify(base).slice(0, -1);
  const withUsage = body.stream_options?.include_usage ?? false;
  const tail = `${withUsage ? ',"usage":null' : ''}}\n\n`;
  const start = `data: ${head},"choices":[{"index":`;
  const plainEnd = `,"logprobs":null,"finish_reason":null}]${tail}`;
  const wantLogprobs = typeof body.logprobs === 'number';
  const isPlain = !wantLogprobs && typeof body.prompt_logprobs !== 'number' && !body.return_token_ids;
  const pending = new Map<number, TextLogprobs[]>();
  const promptIds = new Map<number, readonly number[]>();
  const opened = new Set<number>();
  const n = body.n ?? 1;
  /** In the first chunk of each choice, as vLLM has it. */
  const promptIdsField = (index: number): string => {
    if (opened.has(index)) return '';
    opened.add(index);
    return `,"prompt_token_ids":${JSON.stringify(promptIds.get(Math.floor(index / n)) ?? [])}`;
  };
  const extras = (index: number, tokenIds: readonly number[]): string => {
    const entries = pending.get(Math.floor(index / n));
    pending.delete(Math.floor(index / n));
    const ids = body.return_token_ids ? `,"token_ids":${JSON.stringify(tokenIds)}${promptIdsField(index)}` : '';
    return entries ? `${ids},"prompt_logprobs":${JSON.stringify(promptLogprobsObject(entries))}` : ids;
  };
  return {
    withUsage,
    promptTokenIds(prompt, tokenIds) {
      promptIds.set(prompt, tokenIds);
    },
    promptLogprobs(prompt, entries) {
      pending.set(prompt, entries);
    },
    delta(index, text, logprobs, tokenIds) {
      const begun = `${start}${index},"text":${JSON.stringify(text)}`;
      if (isPlain) return `${begun}${plainEnd}`;
      const shown = wantLogprobs ? JSON.stringify(legacyLogprobs(logprobs)) : 'null';
      return `${begun},"logprobs":${shown},"finish_reason":null${extras(index, tokenIds)}}]${tail}`;
    },
    finished(index, reason, stop, ends) {
      const why = `"finish_reason":"${finishReasonText(reason)}","stop_reason":${JSON.stringify(stop)}`;
      return `${start}${index},"text":"","logprobs":null,${why}${extras(index, [])}}]${ends ? timingsField(ends) : ''}${tail}`;
    },
    end(ends) {
      if (!withUsage) return '';
      return `data: ${head},"choices":[],${JSON.stringify(endParts(ends)).slice(1, -1)}}\n\n`;
    },
  };
}
