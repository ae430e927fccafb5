// The gateway's calls to the tokenizer that lie on a request's path, as messages of one Session. It is opened by the first
// call and again by the first one after it broke. Data: the unanswered calls.
import type {
  EncodeRequest,
  EncodeResponse,
  RenderChatRequest,
  RenderChatResponse,
  RenderInfillRequest,
  RenderInfillResponse,
  SessionRequest,
  SessionResponse,
  TokenizerServiceClient,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError, throwIfAborted, toQuernError } from '#kit/errors.ts';
import { type Bidi, bidi } from '#kit/rpc/client.ts';
import { fromStatusProto } from '#kit/rpc/status.ts';
import { inject, type TraceContext } from '#kit/trace.ts';

export type SessionCallOptions = { signal: AbortSignal; trace?: TraceContext | undefined; timeoutMs: number };

type Request = NonNullable<SessionRequest['request']>;
type Result = NonNullable<SessionResponse['result']>;
type Pending = { resolve(result: Result): void; reject(error: QuernError): void };

const CALL_ID_MAX = 0xffffffff;

/**
 * Invariant: every call settles exactly once: with its answer, its own error, its timeout, its signal's reason, or
 * UNAVAILABLE when the session broke. An answer to a call that has settled is dropped.
 */
export class TokenizerSession {
  readonly #client: TokenizerServiceClient;
  readonly #pending = new Map<number, Pending>();
  readonly #stop = new AbortController();
  #call: Bidi<SessionRequest, SessionResponse> | null = null;
  #nextId = 1;

  constructor(client: TokenizerServiceClient) {
    this.#client = client;
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
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const settle = (): void => {
      this.#pending.delete(callId);
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    const pending: Pending = {
      resolve(result) {
        settle();
        resolve(result);
      },
      reject(error) {
        settle();
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
    const { traceparent = '', tracestate = '' } = trace ? inject(trace) : {};
    call.write({ callId, traceparent, tracestate, request });
    return promise;
  }

  #takeId(): number {
    while (this.#pending.has(this.#nextId)) this.#nextId = this.#nextId >= CALL_ID_MAX ? 1 : this.#nextId + 1;
    const id = this.#nextId;
    this.#nextId = id >= CALL_ID_MAX ? 1 : id + 1;
    return id;
  }

  #open(): Bidi<SessionRequest, SessionResponse> {
    if (this.#call) return this.#call;
    const call = bidi(this.#client, 'session', { signal: this.#stop.signal });
    this.#call = call;
    void this.#listen(call);
    return call;
  }

  async #listen(call: Bidi<SessionRequest, SessionResponse>): Promise<void> {
    let error = new QuernError('UNAVAILABLE', 'the tokenizer ended the session', { reason: 'TOKENIZER_GONE' });
    try {
      for await (const { callId, result } of call.responses) this.#settle(callId, result);
    } catch (thrown) {
      error = toQuernError(thrown);
    }
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
