// The spans of audit records on their way: `send` where a frame goes to the stream, `process` where the ledger stores a batch.
// Both are traces of their own, because a frame holds records of many requests: they link to those, and to one another.
import { TRACE_LINKS_MAX } from '#kit/otlp/limits.ts';
import {
  ATTR_AUDIT_RECORDS,
  MESSAGING_BATCH_MESSAGE_COUNT,
  MESSAGING_DESTINATION_TEMPLATE,
  MESSAGING_MESSAGE_BODY_SIZE,
  MESSAGING_MESSAGE_ID,
  MESSAGING_OPERATION_NAME,
  MESSAGING_OPERATION_TYPE,
  MESSAGING_SYSTEM,
} from '#kit/semconv.ts';
import { extract, noSpans, type Span, type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';
import { recordsOf } from './frame.ts';

/** Few names, whatever the number of producers. */
const TEMPLATE = 'audit.v1.{service}.{instance}';

/** The requests that a frame's records tell of, as far as they name their span. */
function requestsOf(payload: Buffer): TraceContext[] {
  const found: TraceContext[] = [];
  for (const bytes of recordsOf(payload)) {
    if (found.length >= TRACE_LINKS_MAX) break;
    const { trace_id: traceId, span_id: spanId } = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
    const context = extract(`00-${traceId}-${spanId}-01`);
    if (context) found.push(context);
  }
  return found;
}

/** Around one publish; whoever starts it ends it. */
export function startSendSpan(
  sink: SpanSink,
  { id, payload, records }: { id: string; payload: Buffer; records: number },
): Span {
  if (sink === noSpans) return startSpan(sink, '', null);
  return startSpan(sink, `send ${TEMPLATE}`, null, {
    kind: 'producer',
    links: requestsOf(payload),
    attributes: {
      [MESSAGING_SYSTEM]: 'nats',
      [MESSAGING_OPERATION_NAME]: 'send',
      [MESSAGING_OPERATION_TYPE]: 'send',
      [MESSAGING_DESTINATION_TEMPLATE]: TEMPLATE,
      [MESSAGING_MESSAGE_ID]: id,
      [MESSAGING_MESSAGE_BODY_SIZE]: payload.length,
      [ATTR_AUDIT_RECORDS]: records,
    },
  });
}

/** Around the storing of a batch; `senders` are the spans that its messages name. */
export function startProcessSpan(sink: SpanSink, senders: readonly (TraceContext | null | undefined)[]): Span {
  return startSpan(sink, `process ${TEMPLATE}`, null, {
    kind: 'consumer',
    links: senders.filter((sender) => sender !== null && sender !== undefined).slice(0, TRACE_LINKS_MAX),
    attributes: {
      [MESSAGING_SYSTEM]: 'nats',
      [MESSAGING_OPERATION_NAME]: 'process',
      [MESSAGING_OPERATION_TYPE]: 'process',
      [MESSAGING_DESTINATION_TEMPLATE]: TEMPLATE,
      [MESSAGING_BATCH_MESSAGE_COUNT]: senders.length,
    },
  });
}
