// W3C trace context (https://www.w3.org/TR/trace-context/, level 1) and a place to hand finished spans to.
// Exporting is a SpanSink given by a service's main (kit/otlp); without one, spans cost next to nothing and go nowhere.
// A span is made of plain data and explicit parents: no ambient context, so nothing can be lost between callbacks.
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
export type SpanAttributes = Record<string, string | number | boolean | readonly string[]>;
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
  /** Share of new traces that are recorded, 0..1; absent is all. Traces that a caller began follow the caller's flag. */
  readonly rootRatio?: number;
}

/** No export. Spans made for it keep their parent's context and record nothing. */
export const noSpans: SpanSink = { record() {} };

/** Chosen by the trace id, as other makes of samplers do (TraceIdRatioBased): all processes agree. */
function isSampled(traceId: string, ratio: number): boolean {
  return ratio >= 1 || Number.parseInt(traceId.slice(-12), 16) < ratio * 0x1000000000000;
}

/** Above a step of the wall clock, below what anybody would see in a trace. */
const CLOCK_STEP_NS = 2_000_000n;

/** performance.timeOrigin has microseconds; Date.now() alone would shift each process's spans by up to a millisecond. */
function wallUnixNs(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
}
let anchorMonotonicNs = process.hrtime.bigint();
let anchorUnixNs = wallUnixNs();

/** Wall clock in nanoseconds, monotonic within this process to the microsecond or better, unless the clock is set. */
export function nowUnixNs(): bigint {
  const monotonicNs = process.hrtime.bigint();
  const unixNs = anchorUnixNs + (monotonicNs - anchorMonotonicNs);
  const driftNs = BigInt(Date.now()) * 1_000_000n - unixNs;
  if (driftNs <= CLOCK_STEP_NS && driftNs >= -CLOCK_STEP_NS) return unixNs;
  anchorMonotonicNs = monotonicNs; // somebody set the clock: spans must agree with those of other processes
  anchorUnixNs = unixNs + driftNs;
  return anchorUnixNs;
}

export type Span = {
  readonly context: TraceContext;
  set(attributes: SpanAttributes): void;
  event(name: string, attributes?: SpanAttributes): void;
  link(context: TraceContext): void;
  /** Only the first call counts. `error` is a code name such as "UNAVAILABLE"; null or absent: not a failure. */
  end(options?: { error?: string | null; endUnixNs?: bigint }): void;
};

export type SpanOptions = {
  kind?: SpanKind;
  startUnixNs?: bigint;
  attributes?: SpanAttributes;
  links?: TraceContext[];
};

function inertSpan(context: TraceContext): Span {
  return { context, set() {}, event() {}, link() {}, end() {} };
}

/** Starts a span below `parent` (null: a new trace). An unsampled span keeps its ids and records nothing. */
export function startSpan(sink: SpanSink, name: string, parent: TraceContext | null, options: SpanOptions = {}): Span {
  if (sink === noSpans) return inertSpan(parent ?? startTrace());
  const context = parent ? child(parent) : startTrace();
  if (!parent) context.sampled = isSampled(context.traceId, sink.rootRatio ?? 1);
  if (!context.sampled) return inertSpan(context);
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
      sink.record(record);
    },
  };
}

/**
 * The span of a call that came from outside. A caller that was recognised is continued; what anybody else sent is a link
 * on a new trace, so that a stranger can neither write into others' traces nor choose what is recorded.
 */
export function startRemoteSpan(
  sink: SpanSink,
  name: string,
  remote: { context: TraceContext | null; trusted: boolean },
  options: SpanOptions = {},
): Span {
  const { context, trusted } = remote;
  if (trusted || !context) return startSpan(sink, name, context, options);
  return startSpan(sink, name, null, { ...options, links: [...(options.links ?? []), context] });
}
