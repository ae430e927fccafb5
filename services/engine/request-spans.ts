// The engine's part of a request's trace: one span below the submitter's, with queue, prefill and decode inside it. The
// engine measures durations on its monotonic clock and one wall-clock anchor per request.
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import type { QuernError } from '#kit/errors.ts';
import { child, extract, type SpanAttributes, type SpanRecord, type SpanSink, type TraceContext } from '#kit/trace.ts';
import type { NativeFinished } from './step-decoder.ts';

export type SpanWriter = {
  write(request: GenerationRequest, end: NativeFinished, error: QuernError | null): void;
};

function record(
  context: TraceContext,
  parentSpanId: string | null,
  name: string,
  from: bigint,
  ns: bigint,
  attributes: SpanAttributes,
): SpanRecord {
  return {
    context,
    parentSpanId,
    name,
    kind: 'internal',
    startUnixNs: from,
    endUnixNs: from + ns,
    attributes,
    events: [],
    links: [],
    error: null,
  };
}

export function createSpanWriter(sink: SpanSink, model: string): SpanWriter {
  return {
    write(request, end, error) {
      const parent = extract(request.traceparent, request.tracestate || undefined);
      if (!parent?.sampled) return;
      const context = child(parent);
      const start = end.receivedUnixNs;
      const total = end.queueNs + end.prefillNs + end.decodeNs;
      const whole = record(context, parent.spanId, 'engine.generate', start, total, {
        'gen_ai.request.model': model,
        'gen_ai.usage.input_tokens': end.promptTokens,
        'gen_ai.usage.output_tokens': end.completionTokens,
        'quern.request_id': request.requestId,
        'quern.cached_tokens': end.cachedTokens,
        'quern.preemptions': end.preemptions,
      });
      whole.error = error?.code ?? null;
      sink.record(whole);
      const part = (name: string, from: bigint, ns: bigint, attributes: SpanAttributes = {}): void => {
        if (ns > 0n) sink.record(record(child(context), context.spanId, name, from, ns, attributes));
      };
      part('engine.queue', start, end.queueNs);
      const prefillAt = start + end.queueNs;
      part('engine.prefill', prefillAt, end.prefillNs, { 'quern.prefill_chunks': end.prefillChunks });
      part('engine.decode', prefillAt + end.prefillNs, end.decodeNs, { 'quern.decode_steps': end.decodeSteps });
    },
  };
}
