// The gateway's calls to the tokenizer that lie on a request's path, as messages of one Session. It is opened by the first
// call and again by the first one after it broke. Data: the unanswered calls.
import {
  type EncodeRequest,
  type EncodeResponse,
  type RenderChatRequest,
  type RenderChatResponse,
  type RenderInfillRequest,
  type RenderInfillResponse,
  type SessionRequest,
  type SessionResponse,
  TokenizerServiceService,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError, throwIfAborted, toQuernError } from '#kit/errors.ts';
import { LiveMap } from '#kit/live-map.ts';
import { SessionCall, type SessionTarget } from '#kit/rpc/session-call.ts';
import { fromStatusProto } from '#kit/rpc/status.ts';
import { ERROR_TYPE, GEN_AI_USAGE_INPUT_TOKENS, RPC_METHOD, RPC_STATUS_CODE, RPC_SYSTEM_NAME } from '#kit/semconv.ts';
import { inject, noSpans, type Span, type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';

export type SessionCallOptions = { signal: AbortSignal; trace?: TraceContext | undefined; timeoutMs: number };

type Request = NonNullable<SessionRequest['request']>;
type Result = NonNullable<SessionResponse['result']>;
type Pending = { resolve(result: Result): void; reject(error: QuernError): void };

const CALL_ID_MAX = 0xffffffff;
const METHODS = { encode: 'Encode', renderChat: 'RenderChat', renderInfill: 'RenderInfill' } as const;

/** The client's span of one call, named for the RPC that the message stands for. Null without a trace. */
function startCall(spans: SpanSink, { $case }: Request, trace: TraceContext | undefined): Span | null {
  if (!trace || spans === noSpans) return null;
  const method = `quern.tokenizer.v1.TokenizerService/${METHODS[$case]}`;
  const attributes = { [RPC_SYSTEM_NAME]: 'grpc', [RPC_METHOD]: method };
  return startSpan(spans, method, trace, { kind: 'client', attributes });
}

function endCall(span: Span | null, error: QuernError | null, tokens: number): void {
  if (!span) return;
  if (error) span.set({ [ERROR_TYPE]: error.code });
  else span.set({ [GEN_AI_USAGE_INPUT_TOKENS]: tokens });
  span.set({ [RPC_STATUS_CODE]: error?.code ?? 'OK' });
  span.end({ error: error?.code ?? null });
}

/**
 * Invariant: every call settles exactly once: with its answer, its own error, its timeout, its signal's reason, or
 * UNAVAILABLE when the session broke. An answer to a call that has settled is dropped.
 */
export class TokenizerSession {
  readonly #target: SessionTarget;
  readonly #spans: SpanSink;
  readonly #pending = new LiveMap<number, Pending>();
  readonly #stop = new AbortController();
  #call: SessionCall<SessionRequest, SessionResponse> | null = null;
  #nextId = 1;

  constructor(target: SessionTarget, spans: SpanSink = noSpans) {
    this.#target = target;
    this.#spans = spans;
  }

  async encode(value: EncodeRequest, options: SessionCallOptions): Promise<EncodeResponse> {
    const result = await this.#ask({ $case: 'encode', value }, options);
    return result.$case === 'encode' ? result.value : this.#mismatch('encode', result);
  }

  async renderChat(value: RenderChatRequest, options: SessionCallOptions): Promise<RenderChatResponse> {
    const result = await this.#ask({ $case: 'renderChat', value }, options);
    return result.$case === 'renderChat' ? result.value : this.#mismatch('renderChat', result);
  }

  async renderInfill(value: RenderInfillRequest, options: SessionCallOptions): Promise<RenderInfillResponse> {
    const result = await this.#ask({ $case: 'renderInfill', value }, options);
    return result.$case === 'renderInfill' ? result.value : this.#mismatch('renderInfill', result);
  }

  close(): void {
    this.#stop.abort(new QuernError('CANCELLED', 'the gateway is closing'));
  }

  #mismatch(asked: string, { $case }: Result): never {
    const message = `the tokenizer answered ${$case} to ${asked}; gateway and tokenizer must be of one version`;
    throw new QuernError('INTERNAL', message, { reason: 'ANSWER_MISMATCH' });
  }

  #ask(request: Request, { signal, trace, timeoutMs }: SessionCallOptions): Promise<Result> {
    throwIfAborted(signal);
    const call = this.#open();
    const callId = this.#takeId();
    const span = startCall(this.#spans, request, trace);
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const settle = (): void => {
      this.#pending.delete(callId);
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    const pending: Pending = {
      resolve(result) {
        settle();
        endCall(span, null, 'tokenIds' in result.value ? result.value.tokenIds.length : 0);
        resolve(result);
      },
      reject(error) {
        settle();
        endCall(span, error, 0);
        reject(error);
      },
    };
    const onAbort = (): void => pending.reject(toQuernError(signal.reason));
    const timer = setTimeout(() => {
      const message = `the tokenizer did not answer within ${timeoutMs} ms`;
      pending.reject(new QuernError('DEADLINE_EXCEEDED', message, { reason: 'TOKENIZER_TIMEOUT' }));
    }, timeoutMs);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#pending.set(callId, pending);
    const context = span?.context ?? trace;
    const { traceparent = '', tracestate = '' } = context ? inject(context) : {};
    try {
      call.write({ callId, traceparent, tracestate, request });
    } catch (error) {
      pending.reject(toQuernError(error));
    }
    return promise;
  }

  #takeId(): number {
    while (this.#pending.has(this.#nextId)) this.#nextId = this.#nextId >= CALL_ID_MAX ? 1 : this.#nextId + 1;
    const id = this.#nextId;
    this.#nextId = id >= CALL_ID_MAX ? 1 : id + 1;
    return id;
  }

  #open(): SessionCall<SessionRequest, SessionResponse> {
    this.#call ??= new SessionCall(this.#target, TokenizerServiceService.session, {
      signal: this.#stop.signal,
      onMessage: ({ callId, result }) => this.#settle(callId, result),
      onEnd: (error) => this.#broken(error),
    });
    return this.#call;
  }

  #broken(thrown: QuernError | null): void {
    const message = 'the tokenizer ended the session';
    const error = thrown ?? new QuernError('UNAVAILABLE', message, { reason: 'TOKENIZER_GONE' });
    this.#call = null;
    for (const pending of [...this.#pending.values()]) pending.reject(error);
  }

  #settle(callId: number, result: SessionResponse['result']): void {
    const pending = this.#pending.get(callId);
    if (!pending) return; // settled: timed out or cancelled
    if (result?.$case === 'error') pending.reject(fromStatusProto(result.value));
    else if (result) pending.resolve(result);
    else
      pending.reject(new QuernError('INTERNAL', 'the tokenizer sent an empty answer', { reason: 'ANSWER_MISMATCH' }));
  }
}
