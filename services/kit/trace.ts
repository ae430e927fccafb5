// W3C trace context (https://www.w3.org/TR/trace-context/, level 1) and a place to hand finished spans to.
// Exporting is a SpanSink given by a service's main; without one, spans cost an object and go nowhere.
import { randomHex } from './ids.ts';
import { TRACESTATE_CHARS_MAX } from './limits.ts';

export type TraceContext = {
  /** 32 lower-case hex digits, not all zero. */
  traceId: string;
  /** 16 lower-case hex digits, not all zero. */
  spanId: string;
  sampled: boolean;
  tracestate?: string;
};

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** A new root. */
export function startTrace(options: { sampled?: boolean } = {}): TraceContext {
  return { traceId: randomHex(16), spanId: randomHex(8), sampled: options.sampled ?? true };
}

/** The caller's context, or null when the header is absent or not valid (the trace is then started anew, §3.2.4). */
export function extract(traceparent: string | undefined, tracestate?: string | undefined): TraceContext | null {
  const match = traceparent === undefined ? null : TRACEPARENT.exec(traceparent.trim());
  if (!match) return null;
  const [, version, traceId, spanId, flags, rest] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
    string?,
  ];
  if (version === 'ff' || (version === '00' && rest !== undefined)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  const context: TraceContext = { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
  if (tracestate && tracestate.length <= TRACESTATE_CHARS_MAX && /^[\x20-\x7e]+$/.test(tracestate)) {
    context.tracestate = tracestate;
  }
  return context;
}

/** A context for work below `parent`: same trace, new span id. */
export function child(parent: TraceContext): TraceContext {
  return { ...parent, spanId: randomHex(8) };
}

/** The headers that carry `context` to another process. */
export function inject(context: TraceContext): { traceparent: string; tracestate?: string } {
  const traceparent = `00-${context.traceId}-${context.spanId}-${context.sampled ? '01' : '00'}`;
  return context.tracestate === undefined ? { traceparent } : { traceparent, tracestate: context.tracestate };
}

export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer';
export type SpanAttributes = Record<string, string | number | boolean>;
export type SpanEvent = { name: string; unixNs: bigint; attributes: SpanAttributes };

/** A finished span. Times are explicit: a span may describe work measured elsewhere (an engine step). */
export type SpanRecord = {
  context: TraceContext;
  parentSpanId: string | null;
  name: string;
  kind: SpanKind;
  startUnixNs: bigint;
  endUnixNs: bigint;
  attributes: SpanAttributes;
  events: SpanEvent[];
  links: TraceContext[];
  error: string | null;
};

/** Takes finished, sampled spans. Must not throw and must not block. */
export interface SpanSink {
  record(span: SpanRecord): void;
}

export const noSpans: SpanSink = { record() {} };

/** Wall clock in nanoseconds, monotonic within this process to the microsecond or better. */
export function nowUnixNs(): bigint {
  return anchorUnixNs + (process.hrtime.bigint() - anchorMonotonicNs);
}
const anchorUnixNs = BigInt(Date.now()) * 1_000_000n;
const anchorMonotonicNs = process.hrtime.bigint();

export type Span = {
  readonly context: TraceContext;
  set(attributes: SpanAttributes): void;
  event(name: string, attributes?: SpanAttributes): void;
  link(context: TraceContext): void;
  /** Only the first call counts. `error` is a code name such as "UNAVAILABLE". */
  end(options?: { error?: string; endUnixNs?: bigint }): void;
};

export type SpanOptions = {
  kind?: SpanKind;
  startUnixNs?: bigint;
  attributes?: SpanAttributes;
  links?: TraceContext[];
};

/** Starts a span below `parent` (null: a new trace). An unsampled span keeps its ids and records nothing. */
export function startSpan(sink: SpanSink, name: string, parent: TraceContext | null, options: SpanOptions = {}): Span {
  const context = parent ? child(parent) : startTrace();
  const record: SpanRecord = {
    context,
    parentSpanId: parent?.spanId ?? null,
    name,
    kind: options.kind ?? 'internal',
    startUnixNs: options.startUnixNs ?? nowUnixNs(),
    endUnixNs: 0n,
    attributes: { ...options.attributes },
    events: [],
    links: [...(options.links ?? [])],
    error: null,
  };
  let ended = false;
  return {
    context,
    set(attributes) {
      Object.assign(record.attributes, attributes);
    },
    event(eventName, attributes = {}) {
      record.events.push({ name: eventName, unixNs: nowUnixNs(), attributes });
    },
    link(target) {
      record.links.push(target);
    },
    end(end = {}) {
      if (ended) return;
      ended = true;
      record.endUnixNs = end.endUnixNs ?? nowUnixNs();
      record.error = end.error ?? null;
      if (context.sampled) sink.record(record);
    },
  };
}
