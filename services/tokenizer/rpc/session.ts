// Session: the calls of one gateway as messages of one stream. One unary call costs both sides a stream's headers, trailers
// and bookkeeping, about four times what a message costs (docs/adr/0005-tokenizer-session.md); this lies on every request's
// path to its first token. Calls are answered in order because each of them is computed at once, but callers may not rely on it.
import type {
  EncodeRequest,
  EncodeResponse,
  RenderChatRequest,
  RenderChatResponse,
  RenderInfillRequest,
  RenderInfillResponse,
  SessionRequest,
  SessionResponse,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Out } from '#kit/rpc/service.ts';
import { toStatusProto } from '#kit/rpc/status.ts';
import {
  ATTR_FIM_FAMILY,
  ERROR_TYPE,
  GEN_AI_USAGE_INPUT_TOKENS,
  RPC_METHOD,
  RPC_STATUS_CODE,
  RPC_SYSTEM_NAME,
  serverFault,
} from '#kit/semconv.ts';
import { extract, type SpanAttributes, type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';

/** The calls that a session carries. They throw QuernError. */
export type SessionCalls = {
  encode(request: EncodeRequest): EncodeResponse;
  renderChat(request: RenderChatRequest): RenderChatResponse;
  renderInfill(request: RenderInfillRequest): RenderInfillResponse;
};

export type SessionOptions = {
  spans: SpanSink;
  /** Aborted when the service drains: what was read is answered, then the session ends with UNAVAILABLE. */
  draining: AbortSignal;
  /** Seconds that one call took and the code it ended with, by the name of the RPC that it stands for. */
  onAnswered?: (rpc: string, seconds: number, code: string, trace: TraceContext) => void;
};

type Result = NonNullable<SessionResponse['result']>;

const RPC_NAMES = { encode: 'Encode', renderChat: 'RenderChat', renderInfill: 'RenderInfill' } as const;

function answer(calls: SessionCalls, { callId, request }: SessionRequest): Result {
  switch (request?.$case) {
    case 'encode':
      return { $case: 'encode', value: calls.encode(request.value) };
    case 'renderChat':
      return { $case: 'renderChat', value: calls.renderChat(request.value) };
    case 'renderInfill':
      return { $case: 'renderInfill', value: calls.renderInfill(request.value) };
    default: {
      const message = `session: call ${callId}: expected encode, render_chat or render_infill, got an empty request`;
      throw new QuernError('INVALID_ARGUMENT', message, { reason: 'EMPTY_REQUEST' });
    }
  }
}

/** What a span says of an answer: sizes and names, no text. */
function resultAttributes(result: Result): SpanAttributes {
  if (result.$case === 'error') return {};
  const tokens = { [GEN_AI_USAGE_INPUT_TOKENS]: result.value.tokenIds.length };
  return result.$case === 'renderInfill' ? { ...tokens, [ATTR_FIM_FAMILY]: result.value.family } : tokens;
}

function serveOne(
  calls: SessionCalls,
  message: SessionRequest,
  out: Out<SessionResponse>,
  options: SessionOptions,
): boolean {
  const { callId, request, traceparent, tracestate } = message;
  const rpc = request ? RPC_NAMES[request.$case] : 'unknown';
  const method = `quern.tokenizer.v1.TokenizerService/${rpc}`;
  const span = startSpan(options.spans, method, extract(traceparent, tracestate || undefined), {
    kind: 'server',
    attributes: { [RPC_SYSTEM_NAME]: 'grpc', [RPC_METHOD]: method },
  });
  const startedMs = performance.now();
  let writable: boolean;
  let code: string | null = null;
  try {
    const result = answer(calls, message);
    span.set(resultAttributes(result));
    writable = out.write({ callId, result });
  } catch (thrown) {
    const error = toQuernError(thrown);
    code = error.code;
    writable = out.write({ callId, result: { $case: 'error', value: toStatusProto(error) } });
  }
  options.onAnswered?.(rpc, (performance.now() - startedMs) / 1000, code ?? 'OK', span.context);
  span.set({ [RPC_STATUS_CODE]: code ?? 'OK', ...(code !== null && { [ERROR_TYPE]: code }) });
  span.end({ error: serverFault(code) });
  return writable;
}

/** Rejects with UNAVAILABLE when the service drains. */
function refusal({ draining }: SessionOptions, over: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const onDrain = (): void => {
      const message = 'the tokenizer is draining; open a session to another one';
      reject(new QuernError('UNAVAILABLE', message, { reason: 'DRAINING' }));
    };
    if (draining.aborted) onDrain();
    else draining.addEventListener('abort', onDrain, { once: true, signal: over });
  });
}

/** Serves one session until its peer ends it or the service drains. Takes the next call when the answers are being read. */
export async function session(
  calls: SessionCalls,
  incoming: AsyncIterable<SessionRequest>,
  out: Out<SessionResponse>,
  options: SessionOptions,
): Promise<void> {
  const over = new AbortController();
  const serve = async (): Promise<void> => {
    for await (const message of incoming) if (!serveOne(calls, message, out, options)) await out.drained();
  };
  const refused = refusal(options, over.signal);
  const served = serve();
  refused.catch(() => {});
  served.catch(() => {});
  try {
    await Promise.race([served, refused]);
  } finally {
    over.abort();
  }
}
