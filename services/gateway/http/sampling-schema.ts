// The fields that completions and chat share, as OpenAI and vLLM name them, and their way into the typed request.
import { z } from 'zod';
import { PriorityClass, type SamplingParams } from '#gen/quern/common/v1/common.ts';
import {
  CHOICES_MAX,
  COALESCE_MS_MAX,
  LOGIT_BIAS_ENTRIES_MAX,
  LOGPROBS_MAX,
  STOP_STRING_BYTES_MAX,
  STOP_STRINGS_MAX,
  STOP_TOKEN_IDS_MAX,
  SUPERSEDE_KEY_CHARS_MAX,
} from '../limits.ts';
import { emptySampling, REQUEST_ID, type TypedRequest } from '../typed-request.ts';
import type { Exchange } from './exchange.ts';
import { requestTimeoutMs } from './exchange.ts';

const UINT32_MAX = 0xffffffff;
const CLASSES = ['invoked', 'automatic', 'chat', 'batch', 'speculative', 'warm'] as const;

export const tokenId = z.int().min(0).max(UINT32_MAX);
export const count = (max: number, min = 0) => z.int().min(min).max(max);

const stopString = z
  .string()
  .refine((text) => text.isWellFormed(), 'expected whole characters, got half a surrogate pair')
  .refine(
    (text) => Buffer.byteLength(text) >= 1 && Buffer.byteLength(text) <= STOP_STRING_BYTES_MAX,
    `expected 1..${STOP_STRING_BYTES_MAX} bytes`,
  );

/** `instead`: what else a caller of more may do. */
export function stopField(max: number, instead = '') {
  const tooMany = ({ input }: { input?: unknown }): string =>
    `expected at most ${max} stop strings, got ${Array.isArray(input) ? input.length : 1}; send fewer${instead}`;
  return z
    .union([stopString, z.array(stopString)])
    .refine((given) => typeof given === 'string' || given.length <= max, { error: tooMany })
    .nullish();
}

const logitBias = z
  .record(z.string().regex(/^\d{1,10}$/, 'expected a token id'), z.number().min(-100).max(100))
  .refine(
    (map) => Object.keys(map).length <= LOGIT_BIAS_ENTRIES_MAX,
    `expected at most ${LOGIT_BIAS_ENTRIES_MAX} entries`,
  );

/** What every generation body may hold. OpenAI's clients send null for what is not set. */
export const sharedFields = {
  model: z.string().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  // vLLM writes -1 for "off"
  top_k: z.int().min(-1).max(UINT32_MAX).nullish(),
  min_p: z.number().min(0).lt(1).nullish(),
  repetition_penalty: z.number().gt(0).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  seed: z.int().nullish(),
  logit_bias: logitBias.nullish(),
  stop: stopField(STOP_STRINGS_MAX),
  stop_token_ids: z.array(tokenId).max(STOP_TOKEN_IDS_MAX).nullish(),
  ignore_eos: z.boolean().nullish(),
  min_tokens: count(UINT32_MAX).nullish(),
  n: count(CHOICES_MAX, 1).nullish(),
  prompt_logprobs: count(LOGPROBS_MAX).nullish(),
  return_token_ids: z.boolean().nullish(),
  skip_special_tokens: z.boolean().nullish(),
  priority: z.int().min(-0x80000000).max(0x7fffffff).nullish(),
  priority_class: z.enum(CLASSES).nullish(),
  supersede_key: z.string().max(SUPERSEDE_KEY_CHARS_MAX).nullish(),
  coalesce_ms: count(COALESCE_MS_MAX).nullish(),
  request_id: z.string().regex(REQUEST_ID, 'expected 1..128 of [A-Za-z0-9._:-]').nullish(),
  user: z.string().nullish(),
};

const sharedSchema = z.looseObject(sharedFields);
export type SharedBody = z.output<typeof sharedSchema>;

/** Sampling without max_tokens and logprobs, which the two endpoints spell differently. */
export function samplingOf(body: SharedBody): SamplingParams {
  const bias = Object.entries(body.logit_bias ?? {}).map(([id, value]): [number, number] => [Number(id), value]);
  return {
    ...emptySampling(),
    temperature: body.temperature ?? undefined,
    topP: body.top_p ?? undefined,
    topK: body.top_k === undefined || body.top_k === null ? undefined : Math.max(0, body.top_k),
    minP: body.min_p ?? undefined,
    repetitionPenalty: body.repetition_penalty ?? undefined,
    frequencyPenalty: body.frequency_penalty ?? undefined,
    presencePenalty: body.presence_penalty ?? undefined,
    seed: body.seed === undefined || body.seed === null ? undefined : BigInt.asUintN(64, BigInt(body.seed)),
    logitBias: new Map(bias),
    stopTokenIds: body.stop_token_ids ?? [],
    ignoreEos: body.ignore_eos ?? undefined,
    minTokens: body.min_tokens ?? undefined,
    promptLogprobs: body.prompt_logprobs ?? undefined,
    n: body.n ?? undefined,
  };
}

export type SharedRequest = Omit<TypedRequest, 'method' | 'prompt' | 'sampling' | 'echo'>;

/** What does not differ between the endpoints. */
export function sharedRequest(body: SharedBody, exchange: Exchange): SharedRequest {
  const name = body.priority_class?.toUpperCase() as Uppercase<(typeof CLASSES)[number]> | undefined;
  const stop = body.stop ?? [];
  return {
    model: body.model ?? '',
    stop: typeof stop === 'string' ? [stop] : stop,
    modeStop: [],
    requestId: body.request_id ?? exchange.requestId,
    priorityClass: name ? PriorityClass[`PRIORITY_CLASS_${name}`] : PriorityClass.PRIORITY_CLASS_UNSPECIFIED,
    priority: body.priority ?? 0,
    supersedeKey: body.supersede_key ?? '',
    coalesceMs: body.coalesce_ms ?? 0,
    returnTokenIds: body.return_token_ids ?? false,
    skipSpecialTokens: body.skip_special_tokens ?? true,
    timeoutMs: requestTimeoutMs(exchange.request),
    softDeadlineMs: null,
  };
}
