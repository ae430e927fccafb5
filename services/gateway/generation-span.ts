// The client span of one generation (OpenTelemetry GenAI conventions): the engine's spans lie below it. No text in it.
import type { SamplingParams, Usage } from '#gen/quern/common/v1/common.ts';
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
  const span = startSpan(sink, `${operation} ${model}`, parent, { kind: 'client' });
  span.set({
    'gen_ai.operation.name': operation,
    'gen_ai.provider.name': 'quern',
    'gen_ai.request.model': model,
    'gen_ai.request.max_tokens': sampling.maxTokens ?? 0,
    'gen_ai.request.choice.count': sampling.n ?? 1,
    ...(sampling.temperature !== undefined && { 'gen_ai.request.temperature': sampling.temperature }),
    ...(sampling.topP !== undefined && { 'gen_ai.request.top_p': sampling.topP }),
    'quern.request_id': requestId,
    'quern.method': request.method,
  });
  return span;
}

export type GenerationFacts = { usage: Usage; outcome: string; resumes: number; error: string | null };

export function endGenerationSpan(span: Span, { usage, outcome, resumes, error }: GenerationFacts): void {
  span.set({
    'gen_ai.usage.input_tokens': usage.promptTokens,
    'gen_ai.usage.output_tokens': usage.completionTokens,
    'gen_ai.usage.cache_read.input_tokens': usage.cachedTokens,
    'gen_ai.response.finish_reasons': outcome,
    'quern.resumes': resumes,
    ...(error !== null && { 'error.type': error }),
  });
  span.end(error === null ? {} : { error });
}
