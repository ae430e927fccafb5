// What we write is what OpenTelemetry's own serializer writes of the same span: theirs is the oracle, at every edge of the format.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import {
  createTraceState,
  type HrTime,
  SpanKind as OtelKind,
  type SpanContext,
  SpanStatusCode,
} from '@opentelemetry/api';
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import { TRACE_EVENTS_MAX, TRACE_LINKS_MAX } from '#kit/otlp/limits.ts';
import { encodeSpan, requestEncoder } from '#kit/otlp/span-encoding.ts';
import { SEMCONV_VERSION } from '#kit/semconv.ts';
import type { SpanAttributes, SpanRecord, TraceContext } from '#kit/trace.ts';
import { decodeTraceRequest } from '../../../support/otlp-spans.ts';

const RESOURCE = { 'service.name': 'x', 'process.pid': 70_000 };
const NS = 1_000_000_000n;
// One of each for all spans: the library groups by identity.
const OTEL_RESOURCE = resourceFromAttributes(RESOURCE);
const OTEL_SCOPE = { name: 'quern', schemaUrl: `https://opentelemetry.io/schemas/${SEMCONV_VERSION}` };

const hrTime = (unixNs: bigint): HrTime => [Number(unixNs / NS), Number(unixNs % NS)];
const otelContext = ({ traceId, spanId, sampled, tracestate }: TraceContext): SpanContext => ({
  traceId,
  spanId,
  traceFlags: sampled ? 1 : 0,
  ...(tracestate !== undefined && { traceState: createTraceState(tracestate) }),
});

/** The span as the library takes it. Nothing in it may be beyond our bounds. */
function readable(span: SpanRecord): ReadableSpan {
  const own = otelContext(span.context);
  const isRemote = span.kind === 'server' || span.kind === 'consumer';
  const attributes = { ...span.attributes } as Record<string, string>;
  if (span.error !== null) attributes['error.type'] ??= span.error;
  return {
    name: span.name,
    kind: OtelKind[span.kind.toUpperCase() as 'CLIENT'],
    spanContext: () => own,
    ...(span.parentSpanId !== null && { parentSpanContext: { ...own, spanId: span.parentSpanId, isRemote } }),
    startTime: hrTime(span.startUnixNs),
    endTime: hrTime(span.endUnixNs),
    duration: hrTime(span.endUnixNs - span.startUnixNs),
    status: span.error === null ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR, message: span.error },
    attributes,
    links: span.links.map((link) => ({ context: otelContext(link) })),
    events: span.events.map(({ name, unixNs, attributes: of }) => ({
      name,
      time: hrTime(unixNs),
      attributes: of as Record<string, string>,
    })),
    ended: true,
    resource: OTEL_RESOURCE,
    instrumentationScope: OTEL_SCOPE,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

const context = (spanId = 'b7ad6b7169203331'): TraceContext => ({
  traceId: '0af7651916cd43dd8448eb211c80319c',
  spanId,
  sampled: true,
});

function spanOf(parts: Partial<SpanRecord> = {}): SpanRecord {
  const startUnixNs = 1_795_000_000_123_456_789n;
  return {
    context: context(),
    parentSpanId: null,
    name: 'work',
    kind: 'internal',
    startUnixNs,
    endUnixNs: startUnixNs + 1_000_001n,
    attributes: {},
    events: [],
    links: [],
    error: null,
    ...parts,
  };
}

const VALUES: SpanAttributes = {
  empty: '',
  short: 'a',
  edge: 'x'.repeat(127 - 4), // with its tags the attribute is as long as one byte of length can say, or one more
  long: 'é'.repeat(256),
  emoji: '😀 \ud800 lone',
  zero: 0,
  one: 1,
  seven: 127,
  eight: 128,
  word: 2 ** 32 + 5,
  largest: Number.MAX_SAFE_INTEGER,
  minus: -1,
  smallest: Number.MIN_SAFE_INTEGER,
  part: 0.1,
  less: -2.5,
  yes: true,
  no: false,
  list: ['a', 'ü', ''],
  none: [],
};

/** The fields that are messages, and theirs; other fields of wire type 2 are texts or bytes. */
type Shape = { [field: number]: Shape };
const VALUE: Shape = {};
VALUE[5] = { 1: VALUE };
const ATTRIBUTE: Shape = { 2: VALUE };
const SPAN: Shape = { 9: ATTRIBUTE, 11: { 3: ATTRIBUTE }, 13: { 4: ATTRIBUTE }, 15: {} };
const REQUEST: Shape = { 1: { 1: { 1: ATTRIBUTE }, 2: { 1: { 3: ATTRIBUTE }, 2: SPAN } } };

/** All fields in order of their number. A zero that is written is the same as one that is not, but in a value, where it is the value. */
function fieldsOf(bytes: Uint8Array, shape: Shape): unknown[] {
  const reader = new BinaryReader(bytes);
  const fields: [number, unknown][] = [];
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    const inner = shape[field];
    if (wire === WireType.LengthDelimited) {
      const value = reader.bytes();
      fields.push([field, inner ? fieldsOf(value, inner) : Buffer.from(value).toString('hex')]);
    } else {
      const value =
        wire === WireType.Varint ? reader.uint64() : wire === WireType.Bit64 ? reader.fixed64() : reader.fixed32();
      if (shape === VALUE || BigInt(value) !== 0n) fields.push([field, BigInt(value)]);
    }
  }
  const told =
    shape === VALUE
      ? fields
      : fields.filter(([, value]) => value !== '' && !(Array.isArray(value) && value.length === 0));
  return told.sort(([a], [b]) => a - b);
}

test('spans are encoded as OpenTelemetry encodes them', () => {
  const at = 1_795_000_000_123_999_999n;
  const spans: SpanRecord[] = [
    spanOf(),
    spanOf({ attributes: VALUES }),
    spanOf({ context: { ...context(), tracestate: 'a=b,c=d' }, parentSpanId: '00f067aa0ba902b7', kind: 'server' }),
    spanOf({ parentSpanId: '00f067aa0ba902b7', kind: 'client', error: 'UNAVAILABLE' }),
    spanOf({ kind: 'consumer', error: 'INTERNAL', attributes: { 'error.type': 'EIO' } }),
    spanOf({
      kind: 'producer',
      links: [context('1111111111111111'), { ...context('2222222222222222'), sampled: false }],
    }),
    spanOf({
      events: [
        { name: 'e', unixNs: at, attributes: VALUES },
        { name: 'ü'.repeat(100), unixNs: 0n, attributes: {} },
      ],
    }),
    ...[0, 46, 47, 48, 200].map((i) =>
      spanOf({ attributes: { [`${'k'.repeat(i)}ü`]: `${'v'.repeat(i)}é`, again: i } }),
    ),
    ...Array.from({ length: 300 }, (_, i) =>
      spanOf({ name: 'n'.repeat(i + 1), attributes: { a: 'b'.repeat(i % 257), i } }),
    ),
  ];
  const ours = requestEncoder(RESOURCE)(spans.map(encodeSpan));
  const theirs = ProtobufTraceSerializer.serializeRequest(spans.map(readable)) as Uint8Array;
  assert.deepEqual(decodeTraceRequest(ours), decodeTraceRequest(theirs));
  // And all fields by number: flags, scope and schema too, which the reader of the tests leaves out.
  assert.deepEqual(fieldsOf(ours, REQUEST), fieldsOf(theirs, REQUEST));
});

test('a span of any length keeps its own bytes: none is written over by the next', () => {
  const spans = [1, 126, 127, 128, 16_383, 16_384, 70_000].map((length) => spanOf({ name: 'x'.repeat(length) }));
  const encoded = spans.map(encodeSpan);
  const got = decodeTraceRequest(requestEncoder(RESOURCE)(encoded));
  assert.ok(got.every(({ startNs, endNs }, i) => startNs === spans[i]?.startUnixNs && endNs === spans[i]?.endUnixNs));
  assert.deepEqual(
    got.map(({ name }) => name.length),
    [1, 126, 127, 128, 16_383, 16_384, 70_000],
  );
});

test('what is past the bounds is left out and counted, and a span never ends before it begins', () => {
  const events = Array.from({ length: TRACE_EVENTS_MAX + 3 }, (_, i) => ({ name: `${i}`, unixNs: 1n, attributes: {} }));
  const links = Array.from({ length: TRACE_LINKS_MAX + 2 }, () => context());
  const bytes = encodeSpan(spanOf({ events, links, endUnixNs: 1n, attributes: { text: 'x'.repeat(300) } }));
  const [got] = decodeTraceRequest(requestEncoder(RESOURCE)([bytes]));
  assert.equal(got?.events.length, TRACE_EVENTS_MAX);
  assert.equal(got?.links.length, TRACE_LINKS_MAX);
  assert.equal(got?.endNs, got?.startNs);
  assert.equal(got?.attributes.text, `${'x'.repeat(255)}…`);
  assert.ok(bytes.includes(Buffer.from([12 * 8, 3])), 'dropped_events_count');
  assert.ok(bytes.includes(Buffer.from([14 * 8, 2])), 'dropped_links_count');
});
