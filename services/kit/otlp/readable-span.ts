// A finished span of ours as OpenTelemetry's exporter reads it.
import {
  createTraceState,
  type HrTime,
  SpanKind as OtelKind,
  type SpanContext,
  SpanStatusCode,
} from '@opentelemetry/api';
import type { Resource } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import { shortText } from '#kit/text-cut.ts';
import { ERROR_TYPE, SEMCONV_VERSION } from '../semconv.ts';
import type { SpanAttributes, SpanKind, SpanRecord, TraceContext } from '../trace.ts';
import { TRACE_EVENTS_MAX, TRACE_LINKS_MAX, TRACE_VALUE_CHARS_MAX } from './limits.ts';

const KINDS: Readonly<Record<SpanKind, OtelKind>> = {
  internal: OtelKind.INTERNAL,
  server: OtelKind.SERVER,
  client: OtelKind.CLIENT,
  producer: OtelKind.PRODUCER,
  consumer: OtelKind.CONSUMER,
};
const SCOPE = { name: 'quern', schemaUrl: `https://opentelemetry.io/schemas/${SEMCONV_VERSION}` };
const NS_PER_S = 1_000_000_000n;

function hrTime(unixNs: bigint): HrTime {
  return [Number(unixNs / NS_PER_S), Number(unixNs % NS_PER_S)];
}

function spanContext({ traceId, spanId, sampled, tracestate }: TraceContext): SpanContext {
  return {
    traceId,
    spanId,
    traceFlags: sampled ? 1 : 0,
    ...(tracestate !== undefined && { traceState: createTraceState(tracestate) }),
  };
}

const cut = (text: string): string => shortText(text, TRACE_VALUE_CHARS_MAX).toWellFormed();

function attributesOf(attributes: SpanAttributes): Record<string, string | number | boolean | string[]> {
  const out: Record<string, string | number | boolean | string[]> = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'string') out[name] = cut(value);
    else if (typeof value === 'object') out[name] = value.map(cut);
    else out[name] = value;
  }
  return out;
}

/** Cuts what exceeds the bounds and says how much it left out. */
export function readableSpan(span: SpanRecord, resource: Resource): ReadableSpan {
  const own = spanContext(span.context);
  const remote = span.kind === 'server' || span.kind === 'consumer';
  const parentSpanContext =
    span.parentSpanId === null ? undefined : { ...own, spanId: span.parentSpanId, isRemote: remote };
  const durationNs = span.endUnixNs > span.startUnixNs ? span.endUnixNs - span.startUnixNs : 0n;
  const attributes = attributesOf(span.attributes);
  if (span.error !== null) attributes[ERROR_TYPE] ??= span.error;
  return {
    name: span.name,
    kind: KINDS[span.kind],
    spanContext: () => own,
    ...(parentSpanContext && { parentSpanContext }),
    startTime: hrTime(span.startUnixNs),
    endTime: hrTime(span.startUnixNs + durationNs),
    duration: hrTime(durationNs),
    status: span.error === null ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR, message: span.error },
    attributes,
    links: span.links.slice(0, TRACE_LINKS_MAX).map((link) => ({ context: spanContext(link) })),
    events: span.events.slice(0, TRACE_EVENTS_MAX).map((event) => ({
      name: event.name,
      time: hrTime(event.unixNs),
      attributes: attributesOf(event.attributes),
    })),
    ended: true,
    resource,
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
    droppedEventsCount: Math.max(0, span.events.length - TRACE_EVENTS_MAX),
    droppedLinksCount: Math.max(0, span.links.length - TRACE_LINKS_MAX),
  };
}
