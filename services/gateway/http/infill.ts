// POST /infill as llama.cpp's server has it: what llama.vim and llama.vscode speak.
import { z } from 'zod';
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import { InfillMode } from '#gen/quern/gateway/v1/gateway.ts';
import { type CollectedChoice, collect } from '../collector.ts';
import type { GatewayContext } from '../context.ts';
import type { GenerationEnd } from '../generation-events.ts';
import { INFILL_CHUNKS_MAX, INFILL_TOKENS_DEFAULT } from '../limits.ts';
import { infillEnd } from '../scope/infill-end.ts';
import type { TypedRequest } from '../typed-request.ts';
import { validate } from './body.ts';
import { callerOf, type Exchange, type Handler, sendJson } from './exchange.ts';
import { count, samplingOf, sharedFields, sharedRequest } from './sampling-schema.ts';
import { EventStream } from './sse.ts';
import { type StreamShape, streamAnswer } from './stream-answer.ts';

const UINT32_MAX = 0xffffffff;
const DAY_MS = 86_400_000;

const chunk = z.looseObject({ filename: z.string().nullish(), text: z.string() });

const schema = z.looseObject({
  ...sharedFields,
  input_prefix: z.string(),
  input_suffix: z.string(),
  input_extra: z.array(chunk).max(INFILL_CHUNKS_MAX).nullish(),
  /** Text of the cursor's line before the cursor, which belongs behind input_prefix. */
  prompt: z.string().nullish(),
  /** New tokens; -1 = until it ends, 0 = only read the prompt into the cache. */
  n_predict: z.int().min(-1).max(UINT32_MAX).nullish(),
  n_cmpl: sharedFields.n,
  repeat_penalty: sharedFields.repetition_penalty,
  /** Milliseconds for the answer; 0 = as long as it takes. */
  t_max_predict_ms: count(DAY_MS).nullish(),
  /** Ours: as LSP names it; where the answer ends is read by it. */
  language_id: z.string().nullish(),
  /** Which members of the answer to give, with a path a/b for inner ones. */
  response_fields: z.array(z.string()).nullish(),
});

type Body = z.output<typeof schema>;

function tokensOf(body: Body): number {
  const { n_predict: wanted } = body;
  return wanted === undefined || wanted === null || wanted < 0 ? INFILL_TOKENS_DEFAULT : wanted;
}

/**
 * llama.cpp's server has one model and pays no heed to a name; llama.vscode sends by default one that no mesh serves. Of several
 * models an unknown name is a mistake here too.
 */
function modelOf({ model }: Body, { models }: GatewayContext): string {
  const served = models.all();
  return served.length > 1 || served.some(({ name }) => name === model) ? (model ?? '') : '';
}

function requestOf(body: Body, exchange: Exchange, context: GatewayContext): TypedRequest {
  const prefix = body.input_prefix + (body.prompt ?? '');
  const suffix = body.input_suffix;
  const maxTokens = tokensOf(body);
  const chunks = (body.input_extra ?? []).map(({ filename, text }) => ({ path: filename ?? '', text }));
  // Its readers warm the cache with a limit of a millisecond, which is not meant for the reading itself.
  const softDeadlineMs = maxTokens > 0 && body.t_max_predict_ms ? body.t_max_predict_ms : null;
  return {
    ...sharedRequest(body, exchange),
    model: modelOf(body, context),
    ...infillEnd(InfillMode.INFILL_MODE_MULTI_LINE, { prefix, suffix, path: '', languageId: body.language_id ?? '' }),
    method: 'infill',
    prompt: { kind: 'infill', prefix, suffix, path: '', repository: '', chunks },
    sampling: {
      ...samplingOf(body),
      maxTokens,
      repetitionPenalty: body.repeat_penalty ?? body.repetition_penalty ?? undefined,
      n: maxTokens === 0 ? 1 : (body.n_cmpl ?? body.n ?? undefined),
    },
    echo: false,
    softDeadlineMs,
  };
}

const milliseconds = (ns: bigint | undefined): number => Number(ns ?? 0n) / 1e6;
const ratio = (of: number, by: number): number => (by > 0 ? of / by : 0);

/** llama.cpp counts as prompt_n what had to be computed, without what the cache held. */
function timingsOf(end: GenerationEnd, predicted: number) {
  const cached = end.usage?.cachedTokens ?? 0;
  const read = (end.usage?.promptTokens ?? 0) - cached;
  const promptMs = milliseconds(end.timings?.prefillNs);
  const predictedMs = milliseconds(end.timings?.decodeNs);
  return {
    cache_n: cached,
    prompt_n: read,
    prompt_ms: promptMs,
    prompt_per_token_ms: ratio(promptMs, read),
    prompt_per_second: ratio(read * 1_000, promptMs),
    predicted_n: predicted,
    predicted_ms: predictedMs,
    predicted_per_token_ms: ratio(predictedMs, predicted),
    predicted_per_second: ratio(predicted * 1_000, predictedMs),
  };
}

function stopType(reason: FinishReason, stopString: string): string {
  if (stopString !== '') return 'word';
  return reason === FinishReason.FINISH_REASON_STOP ? 'eos' : 'limit';
}

type Ended = { index: number; reason: FinishReason; stopString: string; text: string; tokens: number };

type Settings = (end: GenerationEnd) => { n_ctx: number; n_predict: number; stream: boolean };

/** llama.vscode shows n_ctx beside what is cached, and fails without generation_settings. */
function settingsOf({ models }: GatewayContext, { sampling }: TypedRequest, stream: boolean): Settings {
  return ({ model }) => {
    const served = models.all().find(({ name }) => name === model);
    const contextLength = served && models.description(served)?.contextLength;
    return { n_ctx: contextLength ?? 0, n_predict: sampling.maxTokens ?? INFILL_TOKENS_DEFAULT, stream };
  };
}

function answerOf(choice: Ended, end: GenerationEnd, settings: Settings): Record<string, unknown> {
  const { droppedPrefixTokens = 0, droppedSuffixTokens = 0, droppedChunks = 0 } = end.infill ?? {};
  return {
    index: choice.index,
    content: choice.text,
    tokens: [],
    id_slot: 0,
    stop: true,
    model: end.model,
    generation_settings: settings(end),
    tokens_predicted: choice.tokens,
    tokens_evaluated: end.usage?.promptTokens ?? 0,
    tokens_cached: (end.usage?.promptTokens ?? 0) + choice.tokens, // what the cache holds after it, as there
    has_new_line: choice.text.includes('\n'),
    truncated: droppedPrefixTokens + droppedSuffixTokens + droppedChunks > 0,
    stop_type: stopType(choice.reason, choice.stopString),
    stopping_word: choice.stopString,
    timings: timingsOf(end, choice.tokens),
  };
}

function valueAt(answer: unknown, path: string): unknown {
  return path.split('/').reduce<unknown>((value, name) => {
    const isObject = typeof value === 'object' && value !== null && Object.hasOwn(value, name);
    return isObject ? (value as Record<string, unknown>)[name] : undefined;
  }, answer);
}

/** Members by their paths, which are their names in the answer too; unknown ones are left out. */
function picked(
  answer: Record<string, unknown>,
  fields: readonly string[] | null | undefined,
): Record<string, unknown> {
  if (!fields || fields.length === 0) return answer;
  const found = fields.map((path): [string, unknown] => [path, valueAt(answer, path)]);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined));
}

/** Tokens are counted for the request; of several choices each is said to have its share. */
function shareOf(end: GenerationEnd, choices: number): number {
  return Math.round((end.usage?.completionTokens ?? 0) / Math.max(1, choices));
}

function endedOf(choice: CollectedChoice, tokens: number): Ended {
  const { index, finishReason: reason, stopString, text } = choice;
  return { index, reason, stopString, text, tokens };
}

/** Several completions are an array of answers, one is the answer. */
export function infill(context: GatewayContext): Handler {
  return async (exchange) => {
    const body = validate(schema, exchange.body);
    const request = requestOf(body, exchange, context);
    const settings = settingsOf(context, request, body.stream ?? false);
    if (body.stream) {
      const events = new EventStream(exchange.response, {});
      await streamAnswer(context, [request], exchange, events, createShape(body, request.sampling.n ?? 1, settings));
      return;
    }
    const { choices, end } = await collect(context, request, callerOf(exchange));
    const tokens = shareOf(end, choices.length);
    const answers = choices.map((choice) =>
      picked(answerOf(endedOf(choice, tokens), end, settings), body.response_fields),
    );
    const empty = picked(
      answerOf(
        { index: 0, reason: FinishReason.FINISH_REASON_LENGTH, stopString: '', text: '', tokens: 0 },
        end,
        settings,
      ),
      body.response_fields,
    );
    const answer = answers.length > 1 ? answers : (answers[0] ?? empty);
    sendJson(exchange.response, answer, { 'x-request-id': end.requestId });
  };
}

function createShape(body: Body, choices: number, settings: Settings): StreamShape {
  const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;
  const finished: { index: number; reason: FinishReason; stop: string }[] = [];
  return {
    withUsage: true,
    withoutDone: true,
    promptTokenIds() {},
    promptLogprobs() {},
    delta: (index, content) => event({ index, content, tokens: [], stop: false, id_slot: -1 }),
    finished(index, reason, stop) {
      finished.push({ index, reason, stop: typeof stop === 'string' ? stop : '' });
      return '';
    },
    end(ends) {
      const [end] = ends;
      if (!end) return '';
      const tokens = shareOf(end, choices);
      const last = finished.map(({ index, reason, stop: stopString }) =>
        event(picked(answerOf({ index, reason, stopString, text: '', tokens }, end, settings), body.response_fields)),
      );
      return last.join('');
    },
  };
}
