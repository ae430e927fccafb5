// The client's span of a call to another service, for channels that were opened with a span sink.
import type { Client } from '@grpc/grpc-js';
import { QuernError } from '#kit/errors.ts';
import { ERROR_TYPE, RPC_METHOD, RPC_STATUS_CODE, RPC_SYSTEM_NAME, SERVER_ADDRESS, SERVER_PORT } from '#kit/semconv.ts';
import { noSpans, type Span, type SpanAttributes, type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';
import type { Address } from './address.ts';

/** Who is called, by the configured target: server.address and server.port. */
export function targetAttributes(address: Address): SpanAttributes {
  return address.kind === 'unix'
    ? { [SERVER_ADDRESS]: address.path }
    : { [SERVER_ADDRESS]: address.host, [SERVER_PORT]: address.port };
}

const channels = new WeakMap<Client, { spans: SpanSink; target: SpanAttributes }>();

export function traceChannel(client: Client, spans: SpanSink | undefined, address: Address): void {
  if (spans && spans !== noSpans) channels.set(client, { spans, target: targetAttributes(address) });
}

/** "quern.engine.v1.EngineService/Describe" of a generated client's method. */
function methodName(client: Client, method: string): string {
  const { service } = client.constructor as unknown as { service?: Record<string, { path: string }> };
  return service?.[method]?.path.slice(1) ?? '_OTHER';
}

/** Starts the span of a call below `parent`; null where none is wanted. End it with endCallSpan. */
export function startCallSpan(client: Client, method: string, parent: TraceContext | undefined): Span | null {
  const channel = parent && channels.get(client);
  if (!channel) return null;
  const name = methodName(client, method);
  const attributes = { [RPC_SYSTEM_NAME]: 'grpc', [RPC_METHOD]: name, ...channel.target };
  return startSpan(channel.spans, name, parent, { kind: 'client', attributes });
}

/** For a client everything but OK is an error (semantic conventions for gRPC, "Client"). */
export function endCallSpan(span: Span | null, error: unknown): void {
  if (!span) return;
  const failed = error !== null && error !== undefined;
  const code = failed ? (error instanceof QuernError ? error.code : 'UNKNOWN') : 'OK';
  span.set({ [RPC_STATUS_CODE]: code, ...(failed && { [ERROR_TYPE]: code }) });
  span.end({ error: failed ? code : null });
}
