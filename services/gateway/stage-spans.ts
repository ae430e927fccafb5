// The spans of a request's stages inside the gateway: receive, authorize, admit, route. Each wraps one call, ends exactly
// once and costs nothing without export.
import { PriorityClass } from '#gen/quern/common/v1/common.ts';
import { toQuernError } from '#kit/errors.ts';
import type { Principal } from '#kit/principal.ts';
import {
  ATTR_ADMIT_CLASS,
  ATTR_ADMIT_STAGE,
  ATTR_ADMIT_TOKENS,
  ATTR_AUTH_DECISION,
  ATTR_REASON,
  ATTR_RESUMES,
  ATTR_ROUTE_CANDIDATES,
  ATTR_ROUTE_CHOSEN,
  ATTR_ROUTE_POLICY,
  ATTR_ROUTE_READY,
  ATTR_ROUTE_REASON,
  ATTR_SHED_REASON,
  ERROR_TYPE,
  serverFault,
} from '#kit/semconv.ts';
import { noSpans, type Span, type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';
import type { Admission, Ticket } from './admission.ts';
import type { EngineSession } from './engine-session.ts';
import type { Models, ServedModel } from './models.ts';
import { pickReplica } from './replica-picker.ts';

export const AUTHORIZE_SPAN = 'gateway.authorize';
const RECEIVE_SPAN = 'gateway.receive';
const ADMIT_SPAN = 'gateway.admit';
const ROUTE_SPAN = 'gateway.route';

/** Ends a stage that failed: the reason always, an error only when it is the server's. */
function endFailed(span: Span, thrown: unknown): void {
  const { code, details } = toQuernError(thrown);
  span.set({ [ERROR_TYPE]: code, [ATTR_REASON]: details.reason });
  span.end({ error: serverFault(code) });
}

/** What authentication said, told after it, when it is known whose trace this is. */
export function authorizeSpan(sink: SpanSink, parent: TraceContext, startUnixNs: bigint, allowed: boolean): void {
  if (sink === noSpans) return;
  const attributes = { [ATTR_AUTH_DECISION]: allowed ? 'allow' : 'deny' };
  startSpan(sink, AUTHORIZE_SPAN, parent, { startUnixNs, attributes }).end();
}

/** Reads and parses a body inside a span. */
export async function received<T>(sink: SpanSink, parent: TraceContext, read: () => Promise<T>): Promise<T> {
  const span = startSpan(sink, RECEIVE_SPAN, parent);
  try {
    const body = await read();
    span.end();
    return body;
  } catch (error) {
    endFailed(span, error);
    throw error;
  }
}

/** "automatic" for PRIORITY_CLASS_AUTOMATIC. */
function className(priorityClass: PriorityClass): string {
  const name = Object.entries(PriorityClass).find(([, value]) => value === priorityClass)?.[0] ?? 'unknown';
  return name.replace('PRIORITY_CLASS_', '').toLowerCase();
}

function endShed(span: Span, thrown: unknown): void {
  const shed = toQuernError(thrown).details.metadata?.shed_reason;
  if (shed !== undefined) span.set({ [ATTR_SHED_REASON]: shed });
  endFailed(span, thrown);
}

/** Lets the request in, or throws what Admission throws. */
export function admitted(
  { spans, admission }: { spans: SpanSink; admission: Admission },
  from: { principal: Principal; priorityClass: PriorityClass; trace: TraceContext },
): Ticket {
  const { principal, priorityClass, trace } = from;
  if (spans === noSpans) return admission.admit(principal, priorityClass);
  const attributes = { [ATTR_ADMIT_STAGE]: 'request', [ATTR_ADMIT_CLASS]: className(priorityClass) };
  const span = startSpan(spans, ADMIT_SPAN, trace, { attributes });
  try {
    const ticket = admission.admit(principal, priorityClass);
    span.end();
    return ticket;
  } catch (error) {
    endShed(span, error);
    throw error;
  }
}

/** Charges the tokens, which are known only after the tokenizer answered. */
export function charged(sink: SpanSink, trace: TraceContext, ticket: Ticket, tokens: number): void {
  const attributes = { [ATTR_ADMIT_STAGE]: 'tokens', [ATTR_ADMIT_TOKENS]: tokens };
  const span = startSpan(sink, ADMIT_SPAN, trace, { attributes });
  try {
    ticket.charge(tokens);
    span.end();
  } catch (error) {
    endShed(span, error);
    throw error;
  }
}

/** Why this engine: the prompt's head lies there, another was too busy for it, or there is no choice. */
function routeReason(model: ServedModel, key: number, chosen: EngineSession): string {
  if (model.replicas.length === 1) return 'only_replica';
  const idle = model.replicas.map(({ name, ready }) => ({ name, ready, inFlight: 0 }));
  return pickReplica(idle, key)?.name === chosen.name ? 'prefix_affinity' : 'bounded_load';
}

/** Chooses the engine. Throws what Models.replica throws. */
export async function routed(
  { spans, models }: { spans: SpanSink; models: Models },
  from: { model: ServedModel; key: number; trace: TraceContext; resumes: number },
  wait: { waitMs: number; signal: AbortSignal },
): Promise<EngineSession> {
  const { model, key, trace, resumes } = from;
  if (spans === noSpans) return models.replica(model, key, wait);
  const attributes = {
    [ATTR_ROUTE_POLICY]: 'rendezvous_bounded_load',
    [ATTR_ROUTE_CANDIDATES]: model.replicas.length,
    ...(resumes > 0 && { [ATTR_RESUMES]: resumes }),
  };
  const span = startSpan(spans, ROUTE_SPAN, trace, { attributes });
  try {
    const engine = await models.replica(model, key, wait);
    span.set({
      [ATTR_ROUTE_READY]: model.replicas.filter((replica) => replica.ready).length,
      [ATTR_ROUTE_CHOSEN]: engine.description?.instanceId ?? engine.name,
      [ATTR_ROUTE_REASON]: routeReason(model, key, engine),
    });
    span.end();
    return engine;
  } catch (error) {
    endFailed(span, error);
    throw error;
  }
}
