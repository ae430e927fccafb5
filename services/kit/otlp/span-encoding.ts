// Finished spans as OTLP has them on the wire (opentelemetry-proto 1.x: trace/v1/trace.proto, common/v1/common.proto), written
// field by field into one buffer.
import { shortText } from '#kit/text-cut.ts';
import { ERROR_TYPE, SEMCONV_VERSION } from '../semconv.ts';
import type { SpanAttributes, SpanKind, SpanRecord, TraceContext } from '../trace.ts';
import { TRACE_EVENTS_MAX, TRACE_LINKS_MAX, TRACE_VALUE_CHARS_MAX } from './limits.ts';

const KINDS: Readonly<Record<SpanKind, number>> = { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 };
const STATUS_ERROR = 2;
/** SpanFlags: whether the parent is remote is known, and that it is. */
const HAS_IS_REMOTE = 0x100;
const IS_REMOTE = 0x200;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** A length below this takes one byte. */
const SHORT_LENGTH = 0x80;
const VARINT_BYTES_MAX = 10;
const UTF8_BYTES_PER_UNIT_MAX = 3;
/** Up to here a loop writes text sooner than a call into C++ does. */
const LOOP_CHARS_MAX = 48;
/** Names of attributes are constants of ours; so many are kept encoded. */
const NAMES_MAX = 1024;
const FIRST_BYTES = 4096;

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

/** Values of hex digits by character code; others are 0. */
const HEX_VALUES = new Uint8Array(128);
for (const [value, digit] of [...'0123456789abcdef'].entries()) HEX_VALUES[digit.charCodeAt(0)] = value;

/** Protobuf fields one after the other, in a buffer that grows and is used again. */
class FieldWriter {
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  /** What was written since the last take, as bytes of their own. */
  take(): Buffer {
    const taken = Buffer.from(this.#bytes.subarray(0, this.#at));
    this.#at = 0;
    return taken;
  }

  /** Opens a nested message; `close` takes what it answers and fills in the length. */
  open(field: number): number {
    this.#room(VARINT_BYTES_MAX);
    this.#tag(field, BYTES);
    this.#at += 1; // most are short: room for a length of one byte
    return this.#at;
  }

  close(start: number): void {
    const length = this.#at - start;
    if (length < SHORT_LENGTH) {
      this.#bytes[start - 1] = length;
      return;
    }
    const more = varintSize(length) - 1;
    this.#room(more);
    this.#bytes.copyWithin(start + more, start, this.#at);
    this.#at = start - 1;
    this.#varint(length);
    this.#at += length;
  }

  text(field: number, value: string): void {
    const start = this.open(field);
    this.#room(value.length * UTF8_BYTES_PER_UNIT_MAX);
    this.#at = this.#ascii(value) ?? start + this.#bytes.write(value, start, 'utf8');
    this.close(start);
  }

  /** Writes short text without a call into C++. The place behind it, or null: that is not what it is. */
  #ascii(value: string): number | null {
    const { length } = value;
    if (length > LOOP_CHARS_MAX) return null;
    const bytes = this.#bytes;
    let at = this.#at;
    for (let i = 0; i < length; i += 1) {
      const code = value.charCodeAt(i);
      if (code >= 0x80) return null;
      bytes[at++] = code;
    }
    return at;
  }

  /** Lower-case hex digits, an even number. */
  hex(field: number, value: string): void {
    const { length } = value;
    const start = this.open(field);
    this.#room(length);
    const bytes = this.#bytes;
    for (let i = 0; i < length; i += 2) {
      const high = HEX_VALUES[value.charCodeAt(i)] as number;
      bytes[this.#at++] = (high << 4) | (HEX_VALUES[value.charCodeAt(i + 1)] as number);
    }
    this.close(start);
  }

  /** Fields that were encoded before. */
  again(encoded: Uint8Array): void {
    this.#room(encoded.length);
    this.#bytes.set(encoded, this.#at);
    this.#at += encoded.length;
  }

  /** 0 and above. */
  uint(field: number, value: number): void {
    this.#room(2 * VARINT_BYTES_MAX);
    this.#tag(field, VARINT);
    this.#varint(value);
  }

  /** Below 0, as int64: two's complement in ten bytes. */
  negative(field: number, value: number): void {
    this.#room(2 * VARINT_BYTES_MAX);
    this.#tag(field, VARINT);
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest >= 0x80n; rest >>= 7n) this.#bytes[this.#at++] = Number(rest & 0x7fn) | 0x80;
    this.#bytes[this.#at++] = Number(rest);
  }

  fixed64(field: number, value: bigint): void {
    this.#room(VARINT_BYTES_MAX);
    this.#tag(field, FIXED64);
    this.#view.setBigUint64(this.#at, value, true);
    this.#at += 8;
  }

  fixed32(field: number, value: number): void {
    this.#room(VARINT_BYTES_MAX);
    this.#tag(field, FIXED32);
    this.#at = this.#bytes.writeUInt32LE(value, this.#at);
  }

  double(field: number, value: number): void {
    this.#room(VARINT_BYTES_MAX);
    this.#tag(field, FIXED64);
    this.#at = this.#bytes.writeDoubleLE(value, this.#at);
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#at + bytes));
    this.#bytes.copy(grown, 0, 0, this.#at);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  #tag(field: number, wire: number): void {
    this.#varint(field * 8 + wire);
  }

  #varint(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[this.#at++] = (rest % 0x80) | 0x80;
    this.#bytes[this.#at++] = rest;
  }
}

/** One for all spans: none is begun before the one before it was taken. */
const out = new FieldWriter();

type Value = SpanAttributes[string];

/** AnyValue: whole numbers are int64, others double. */
function writeValue(field: number, value: Value): void {
  const start = out.open(field);
  if (typeof value === 'string') out.text(1, shortText(value, TRACE_VALUE_CHARS_MAX));
  else if (typeof value === 'boolean') out.uint(2, value ? 1 : 0);
  else if (typeof value === 'object') {
    const list = out.open(5);
    for (const item of value) writeValue(1, item);
    out.close(list);
  } else if (!Number.isSafeInteger(value)) out.double(4, value);
  else if (value >= 0) out.uint(3, value);
  else out.negative(3, value);
  out.close(start);
}

/** The field `key` of KeyValue, by name. */
const encodedNames = new Map<string, Uint8Array>();
const names = new FieldWriter();

function encodedName(name: string): Uint8Array {
  let encoded = encodedNames.get(name);
  if (encoded) return encoded;
  names.text(1, name);
  encoded = names.take();
  if (encodedNames.size < NAMES_MAX) encodedNames.set(name, encoded);
  return encoded;
}

function writeAttribute(field: number, name: string, value: Value): void {
  const start = out.open(field);
  out.again(encodedName(name));
  writeValue(2, value);
  out.close(start);
}

function writeAttributes(field: number, attributes: SpanAttributes): void {
  for (const name in attributes) writeAttribute(field, name, attributes[name] as Value);
}

function writeIds({ traceId, spanId, tracestate }: TraceContext): void {
  out.hex(1, traceId);
  out.hex(2, spanId);
  if (tracestate !== undefined) out.text(3, tracestate);
}

const flagsOf = (context: TraceContext): number => (context.sampled ? 1 : 0) | HAS_IS_REMOTE;

function writeEvents(events: SpanRecord['events']): void {
  const kept = Math.min(events.length, TRACE_EVENTS_MAX);
  for (let i = 0; i < kept; i += 1) {
    const { name, unixNs, attributes } = events[i] as SpanRecord['events'][number];
    const start = out.open(11);
    out.fixed64(1, unixNs);
    out.text(2, name);
    writeAttributes(3, attributes);
    out.close(start);
  }
  if (kept < events.length) out.uint(12, events.length - kept);
}

function writeLinks(links: readonly TraceContext[]): void {
  const kept = Math.min(links.length, TRACE_LINKS_MAX);
  for (let i = 0; i < kept; i += 1) {
    const link = links[i] as TraceContext;
    const start = out.open(13);
    writeIds(link);
    out.fixed32(6, flagsOf(link));
    out.close(start);
  }
  if (kept < links.length) out.uint(14, links.length - kept);
}

function writeError(error: string): void {
  const start = out.open(15);
  out.text(2, error);
  out.uint(3, STATUS_ERROR);
  out.close(start);
}

/** The field `spans` of ScopeSpans. Long texts are cut, events and links past their bounds left out and counted. */
export function encodeSpan(span: SpanRecord): Buffer {
  const { context, parentSpanId, kind, attributes, error } = span;
  const start = out.open(2);
  writeIds(context);
  if (parentSpanId !== null) out.hex(4, parentSpanId);
  out.text(5, span.name);
  out.uint(6, KINDS[kind]);
  out.fixed64(7, span.startUnixNs);
  out.fixed64(8, span.endUnixNs > span.startUnixNs ? span.endUnixNs : span.startUnixNs);
  writeAttributes(9, attributes);
  if (error !== null && attributes[ERROR_TYPE] === undefined) writeAttribute(9, ERROR_TYPE, error);
  writeEvents(span.events);
  writeLinks(span.links);
  if (error !== null) writeError(error);
  const isRemote = parentSpanId !== null && (kind === 'server' || kind === 'consumer');
  out.fixed32(16, flagsOf(context) | (isRemote ? IS_REMOTE : 0));
  out.close(start);
  return out.take();
}

/** Puts encoded spans into an ExportTraceServiceRequest of one resource. `resource`: its attributes. */
export function requestEncoder(resource: SpanAttributes): (spans: readonly Uint8Array[]) => Buffer {
  const about = out.open(1);
  writeAttributes(1, resource);
  out.close(about);
  const resourceField = out.take();
  const scope = out.open(1);
  out.text(1, 'quern');
  out.close(scope);
  const scopeField = out.take();
  out.text(3, `https://opentelemetry.io/schemas/${SEMCONV_VERSION}`);
  const schemaField = out.take();
  return (spans) => {
    const scopeSpans = [scopeField, ...spans, schemaField];
    const scopeHead = head(2, sizeOf(scopeSpans));
    const resourceSpans = [resourceField, scopeHead, ...scopeSpans];
    return Buffer.concat([head(1, sizeOf(resourceSpans)), ...resourceSpans]);
  };
}

const sizeOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { length }) => sum + length, 0);

/** Tag and length of a nested message that follows. */
function head(field: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(1 + varintSize(length));
  bytes[0] = field * 8 + BYTES;
  let rest = length;
  for (let at = 1; at < bytes.length; at += 1, rest = Math.floor(rest / 0x80))
    bytes[at] = at + 1 < bytes.length ? (rest % 0x80) | 0x80 : rest;
  return bytes;
}
