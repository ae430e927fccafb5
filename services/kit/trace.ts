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
  const { traceId, sampled, tracestate } = parent;
  const context: TraceContext = { traceId, spanId: randomHex(8), sampled };
  if (tracestate !== undefined) context.tracestate = tracestate;
  return context;
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
const CLOCK_STEP_MS = 2;

/**
 * Where the monotonic clock stood at a time of the wall clock. performance.timeOrigin has microseconds; Date.now() alone would shift
 * each process's spans by up to a millisecond.
 */
let anchorMs = performance.now();
let anchorUnixMs = performance.timeOrigin + anchorMs;
let anchorUnixNs = BigInt(Math.round(anchorUnixMs * 1000)) * 1000n;

/** Wall clock in nanoseconds, monotonic within this process to the microsecond or better, unless the clock is set. */
export function nowUnixNs(): bigint {
  const sinceMs = performance.now() - anchorMs;
  const driftMs = Date.now() - anchorUnixMs - sinceMs;
  if (driftMs <= CLOCK_STEP_MS && driftMs >= -CLOCK_STEP_MS) return anchorUnixNs + BigInt(Math.round(sinceMs * 1e6));
  anchorMs += sinceMs; // somebody set the clock: spans must agree with those of other processes
  anchorUnixMs += sinceMs + driftMs;
  anchorUnixNs = BigInt(Math.round(anchorUnixMs * 1000)) * 1000n;
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

/** Carries a context and records nothing. */
class InertSpan implements Span {
  readonly context: TraceContext;

  constructor(context: TraceContext) {
    this.context = context;
  }

  set(): void {}
  event(): void {}
  link(): void {}
  end(): void {}
}

/** From its start to its end; nothing that comes behind the end is in the record. */
class RecordingSpan implements Span {
  readonly context: TraceContext;
  readonly #sink: SpanSink;
  /** Null: it has ended. */
  #record: SpanRecord | null;

  constructor(sink: SpanSink, record: SpanRecord) {
    this.context = record.context;
    this.#sink = sink;
    this.#record = record;
  }

  set(attributes: SpanAttributes): void {
    if (this.#record) Object.assign(this.#record.attributes, attributes);
  }

  event(name: string, attributes: SpanAttributes = NO_ATTRIBUTES): void {
    this.#record?.events.push({ name, unixNs: nowUnixNs(), attributes });
  }

  link(context: TraceContext): void {
    this.#record?.links.push(context);
  }

  end({ endUnixNs, error = null }: { error?: string | null; endUnixNs?: bigint } = {}): void {
    const record = this.#record;
    if (!record) return;
    this.#record = null;
    record.endUnixNs = endUnixNs ?? nowUnixNs();
    record.error = error;
    this.#sink.record(record);
  }
}

const NO_ATTRIBUTES: SpanAttributes = {};

/**
 * Starts a span below `parent` (null: a new trace). What is not recorded has no span of its own: its parent's context goes on, and
 * whoever is behind it hears by the flag that nothing is recorded.
 */
export function startSpan(sink: SpanSink, name: string, parent: TraceContext | null, options: SpanOptions = {}): Span {
  if (sink === noSpans || parent?.sampled === false) return new InertSpan(parent ?? startTrace());
  const context = parent ? child(parent) : startTrace();
  if (!parent) context.sampled = isSampled(context.traceId, sink.rootRatio ?? 1);
  if (!context.sampled) return new InertSpan(context);
  return new RecordingSpan(sink, {
    context,
    parentSpanId: parent?.spanId ?? null,
    name,
    kind: options.kind ?? 'internal',
    startUnixNs: options.startUnixNs ?? nowUnixNs(),
    endUnixNs: 0n,
    attributes: { ...options.attributes },
    events: [],
    links: options.links ? [...options.links] : [],
    error: null,
  });
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
