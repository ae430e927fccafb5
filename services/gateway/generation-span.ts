// The client span of one generation (OpenTelemetry GenAI conventions): the engine's spans lie below it. No text in it.
import type { SamplingParams, Usage } from '#gen/quern/common/v1/common.ts';
import {
  ATTR_METHOD,
  ATTR_OUTCOME,
  ATTR_REQUEST_ID,
  ATTR_RESUMES,
  ERROR_TYPE,
  GEN_AI_OPERATION_NAME,
  GEN_AI_PROVIDER_NAME,
  GEN_AI_REQUEST_CHOICE_COUNT,
  GEN_AI_REQUEST_MAX_TOKENS,
  GEN_AI_REQUEST_MODEL,
  GEN_AI_REQUEST_TEMPERATURE,
  GEN_AI_REQUEST_TOP_K,
  GEN_AI_REQUEST_TOP_P,
  GEN_AI_RESPONSE_FINISH_REASONS,
  GEN_AI_RESPONSE_ID,
  GEN_AI_RESPONSE_MODEL,
  GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
  GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
  GEN_AI_USAGE_INPUT_TOKENS,
  GEN_AI_USAGE_OUTPUT_TOKENS,
  serverFault,
} from '#kit/semconv.ts';
import { type Span, type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';
import type { TypedRequest } from './typed-request.ts';

/** Starts below the caller's span; what is absent from the request is left out. */
export function startGenerationSpan(
  sink: SpanSink,
  parent: TraceContext,
  from: { request: TypedRequest; model: string; requestId: string; sampling: SamplingParams },
): Span {
  const { request, model, requestId, sampling } = from;
  const operation = request.method === 'chat' ? 'chat' : 'text_completion';
  const choices = sampling.n ?? 1;
  const span = startSpan(sink, `${operation} ${model}`, parent, { kind: 'client' });
  span.set({
    [GEN_AI_OPERATION_NAME]: operation,
    [GEN_AI_PROVIDER_NAME]: 'quern',
    [GEN_AI_REQUEST_MODEL]: model,
    [GEN_AI_REQUEST_MAX_TOKENS]: sampling.maxTokens ?? 0,
    ...(choices !== 1 && { [GEN_AI_REQUEST_CHOICE_COUNT]: choices }),
    ...(sampling.temperature !== undefined && { [GEN_AI_REQUEST_TEMPERATURE]: sampling.temperature }),
    ...(sampling.topP !== undefined && { [GEN_AI_REQUEST_TOP_P]: sampling.topP }),
    ...(sampling.topK !== undefined && { [GEN_AI_REQUEST_TOP_K]: sampling.topK }),
    [GEN_AI_RESPONSE_ID]: requestId,
    [ATTR_REQUEST_ID]: requestId,
    [ATTR_METHOD]: request.method,
  });
  return span;
}

/** The first token is there, `elapsedMs` after the request came. */
export function noteFirstToken(span: Span | null, elapsedMs: number): void {
  if (!span) return;
  span.event('first_token');
  span.set({ [GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]: elapsedMs / 1000 });
}

export type GenerationFacts = {
  model: string;
  usage: Usage;
  /** Of the whole request: stop, length, cancelled, superseded, or a failure's code in lower case. */
  outcome: string;
  /** Per choice that has ended. */
  finishReasons: readonly string[];
  resumes: number;
  error: string | null;
};

/** A caller that went away or a refusal is no error here: the span says it by its outcome. */
export function endGenerationSpan(span: Span, facts: GenerationFacts): void {
  const { model, usage, outcome, finishReasons, resumes, error } = facts;
  span.set({
    [GEN_AI_RESPONSE_MODEL]: model,
    [GEN_AI_USAGE_INPUT_TOKENS]: usage.promptTokens,
    [GEN_AI_USAGE_OUTPUT_TOKENS]: usage.completionTokens,
    [GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS]: usage.cachedTokens,
    ...(finishReasons.length > 0 && { [GEN_AI_RESPONSE_FINISH_REASONS]: finishReasons }),
    [ATTR_OUTCOME]: outcome,
    [ATTR_RESUMES]: resumes,
    ...(error !== null && { [ERROR_TYPE]: error }),
  });
  span.end({ error: serverFault(error) });
}
