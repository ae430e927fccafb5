// Spans as a collector sees them: decoded from an OTLP request by the wire, so that tests check what was really sent.
// Fields: opentelemetry-proto, trace/v1/trace.proto and collector/trace/v1/trace_service.proto.
import { BinaryReader } from '@bufbuild/protobuf/wire';

export type AttributeValue = string | number | boolean | AttributeValue[];
export type Attributes = Record<string, AttributeValue>;
export type SpanLink = { traceId: string; spanId: string };

export type ReceivedSpan = {
  service: string;
  traceId: string;
  spanId: string;
  /** "" for a root. */
  parentSpanId: string;
  traceState: string;
  name: string;
  kind: 'INTERNAL' | 'SERVER' | 'CLIENT' | 'PRODUCER' | 'CONSUMER' | 'UNSPECIFIED';
  startNs: bigint;
  endNs: bigint;
  attributes: Attributes;
  events: { name: string; timeNs: bigint; attributes: Attributes }[];
  links: SpanLink[];
  status: { code: 'UNSET' | 'OK' | 'ERROR'; message: string };
};

const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] as const;
const STATUSES = ['UNSET', 'OK', 'ERROR'] as const;

/** Calls `take` for each field; what it leaves unread (answers false) is skipped. */
function readFields(bytes: Uint8Array, take: (field: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (!take(field, reader)) reader.skip(wire);
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const fixed64 = (reader: BinaryReader): bigint => BigInt(reader.fixed64());

function readValue(bytes: Uint8Array): AttributeValue {
  let value: AttributeValue = '';
  readFields(bytes, (field, reader) => {
    if (field === 1) value = reader.string();
    else if (field === 2) value = reader.bool();
    else if (field === 3) value = Number(reader.int64());
    else if (field === 4) value = reader.double();
    else if (field === 5) {
      const items: AttributeValue[] = [];
      readFields(reader.bytes(), (inner, from) => inner === 1 && items.push(readValue(from.bytes())) > 0);
      value = items;
    } else return false;
    return true;
  });
  return value;
}

function readAttribute(bytes: Uint8Array, into: Attributes): true {
  let name = '';
  let value: AttributeValue = '';
  readFields(bytes, (field, reader) => {
    if (field === 1) name = reader.string();
    else if (field === 2) value = readValue(reader.bytes());
    else return false;
    return true;
  });
  into[name] = value;
  return true;
}

function readEvent(bytes: Uint8Array): ReceivedSpan['events'][number] {
  const event = { name: '', timeNs: 0n, attributes: {} as Attributes };
  readFields(bytes, (field, reader) => {
    if (field === 1) event.timeNs = fixed64(reader);
    else if (field === 2) event.name = reader.string();
    else return field === 3 && readAttribute(reader.bytes(), event.attributes);
    return true;
  });
  return event;
}

function readLink(bytes: Uint8Array): SpanLink {
  const link = { traceId: '', spanId: '' };
  readFields(bytes, (field, reader) => {
    if (field === 1) link.traceId = hex(reader.bytes());
    else if (field === 2) link.spanId = hex(reader.bytes());
    else return false;
    return true;
  });
  return link;
}

function readStatus(bytes: Uint8Array): ReceivedSpan['status'] {
  const status: ReceivedSpan['status'] = { code: 'UNSET', message: '' };
  readFields(bytes, (field, reader) => {
    if (field === 2) status.message = reader.string();
    else if (field === 3) status.code = STATUSES[reader.int32()] ?? 'UNSET';
    else return false;
    return true;
  });
  return status;
}

function readSpan(bytes: Uint8Array, service: string): ReceivedSpan {
  const span: ReceivedSpan = {
    service,
    traceId: '',
    spanId: '',
    parentSpanId: '',
    traceState: '',
    name: '',
    kind: 'UNSPECIFIED',
    startNs: 0n,
    endNs: 0n,
    attributes: {},
    events: [],
    links: [],
    status: { code: 'UNSET', message: '' },
  };
  const readers: Record<number, (reader: BinaryReader) => unknown> = {
    1: (reader) => (span.traceId = hex(reader.bytes())),
    2: (reader) => (span.spanId = hex(reader.bytes())),
    3: (reader) => (span.traceState = reader.string()),
    4: (reader) => (span.parentSpanId = hex(reader.bytes())),
    5: (reader) => (span.name = reader.string()),
    6: (reader) => (span.kind = KINDS[reader.int32()] ?? 'UNSPECIFIED'),
    7: (reader) => (span.startNs = fixed64(reader)),
    8: (reader) => (span.endNs = fixed64(reader)),
    9: (reader) => readAttribute(reader.bytes(), span.attributes),
    11: (reader) => span.events.push(readEvent(reader.bytes())),
    13: (reader) => span.links.push(readLink(reader.bytes())),
    15: (reader) => (span.status = readStatus(reader.bytes())),
  };
  readFields(bytes, (field, reader) => {
    const read = readers[field];
    read?.(reader);
    return read !== undefined;
  });
  return span;
}

/** Decodes an ExportTraceServiceRequest. */
export function decodeTraceRequest(bytes: Uint8Array): ReceivedSpan[] {
  const spans: ReceivedSpan[] = [];
  readFields(bytes, (field, reader) => {
    if (field !== 1) return false;
    const resource: Attributes = {};
    const scopes: Uint8Array[] = [];
    readFields(reader.bytes(), (inner, from) => {
      if (inner === 1) readFields(from.bytes(), (at, of) => at === 1 && readAttribute(of.bytes(), resource));
      else if (inner === 2) scopes.push(from.bytes());
      else return false;
      return true;
    });
    const service = String(resource['service.name'] ?? '');
    for (const scope of scopes) {
      readFields(scope, (at, of) => at === 2 && spans.push(readSpan(of.bytes(), service)) > 0);
    }
    return true;
  });
  return spans;
}
