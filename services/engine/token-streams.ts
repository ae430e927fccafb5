// Every live request of this process: which call it belongs to, and the way of each engine step to the calls it concerns.
// A request lives here from submit to the engine's one finished event, also when its caller has gone.
import type { PositionLogprobs } from '#gen/quern/common/v1/common.ts';
import type { Finished, GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { type QuernError, toQuernError } from '#kit/errors.ts';
import { extract, type TraceContext } from '#kit/trace.ts';
import { type EngineMetrics, openSlots } from './engine-metrics.ts';
import { errorOf, finishedEvent } from './finished-event.ts';
import type { NativeEngine } from './native.ts';
import { toNativeRequest } from './native-request.ts';
import type { RequestTrace, SpanWriter } from './request-spans.ts';
import type { NativeFinished, NativeLogprob, NativeStep } from './step-decoder.ts';
import type { Outbound, StepSender } from './step-sender.ts';

export type TokenStream = Outbound & {
  readonly id: number;
  readonly requestId: string;
  readonly request: GenerationRequest;
  /** Null: the caller has gone; events are dropped. */
  sender: StepSender | null;
  /** Why this side ended it, in place of the engine's "cancelled". */
  override: QuernError | null;
  cancelledAtMs: number | null;
  /** Null: its spans are not recorded. */
  readonly trace: RequestTrace | null;
  /** Tokens made so far, per choice. */
  readonly produced: number[];
  readonly onEnd: (error: QuernError | null) => void;
};

export type SubmitOptions = {
  handle: number;
  sender: StepSender;
  timeoutMs: number | null;
  onEnd: TokenStream['onEnd'];
  span?: TraceContext;
};

export type StreamsOptions = {
  native: NativeEngine;
  metrics: EngineMetrics;
  spans: SpanWriter;
  now_ms: () => number;
};

function position(entries: NativeLogprob[]): PositionLogprobs {
  return { chosen: entries[0], top: entries.slice(1) };
}

/** Invariant: one entry per request that the engine accepted and has not ended. */
export class TokenStreams {
  readonly #native: NativeEngine;
  readonly #metrics: EngineMetrics;
  readonly #spans: SpanWriter;
  readonly #now_ms: () => number;
  readonly #live = new Map<number, TokenStream>();
  readonly #byRequestId = new Map<string, Set<TokenStream>>();
  readonly #flushing = new Set<StepSender>();
  #nextId = 0;
  #running = 0;
  #waiting = 0;

  constructor(options: StreamsOptions) {
    this.#native = options.native;
    this.#metrics = options.metrics;
    this.#spans = options.spans;
    this.#now_ms = options.now_ms;
    options.native.listen((step) => this.#onStep(step));
  }

  get liveCount(): number {
    return this.#live.size;
  }

  /** Requests whose caller has gone and that the engine has not ended yet. */
  get orphanCount(): number {
    let count = 0;
    for (const stream of this.#live.values()) if (!stream.sender) count += 1;
    return count;
  }

  /** Slots in held KV blocks that hold no token: the ends of the last blocks of all sequences that have begun. */
  emptySlots(blockSize: number): number {
    let slots = 0;
    for (const { request, produced } of this.#live.values()) {
      const before = request.tokenIds.length + request.resumeTokenIds.length;
      for (const tokens of produced) if (tokens > 0) slots += openSlots(before + tokens, blockSize);
    }
    return slots;
  }

  /** Sequences after the last step. */
  get load(): { running: number; waiting: number } {
    return { running: this.#running, waiting: this.#waiting };
  }

  /**
   * Gives a request to the engine. Its events go through `sender`; `onEnd` is called once, when its end was queued there.
   * Throws the refusal as a QuernError. `span`: of the RPC that carries this request alone.
   */
  submit(request: GenerationRequest | undefined, options: SubmitOptions): TokenStream {
    try {
      return this.#submit(request, options);
    } catch (thrown) {
      if (!options.span) this.#spans.refused(request, toQuernError(thrown));
      throw thrown;
    }
  }

  #submit(request: GenerationRequest | undefined, options: SubmitOptions): TokenStream {
    const id = this.#takeId();
    const { contextLength } = this.#native.model;
    const native = toNativeRequest(request, { id, contextLength, timeoutMs: options.timeoutMs });
    const accepted = request as GenerationRequest;
    const refusal = this.#native.submit(native);
    if (refusal) {
      this.#metrics.refused(refusal.code);
      throw refusal;
    }
    const stream: TokenStream = {
      id,
      handle: options.handle,
      requestId: accepted.requestId,
      request: accepted,
      sender: options.sender,
      override: null,
      cancelledAtMs: null,
      trace: this.#spans.begin(accepted, options.span ?? null, this.#waiting),
      produced: new Array<number>(native.n ?? 1).fill(0),
      onEnd: options.onEnd,
      pending: null,
      finished: null,
      waitingSinceMs: 0,
    };
    this.#live.set(id, stream);
    const same = this.#byRequestId.get(stream.requestId);
    if (same) same.add(stream);
    else this.#byRequestId.set(stream.requestId, new Set([stream]));
    return stream;
  }

  /** Ends a request; its finished event follows. With an error, that is what its caller reads. */
  cancel(stream: TokenStream, error: QuernError | null = null): void {
    if (!this.#live.has(stream.id)) return;
    stream.override ??= error;
    if (stream.cancelledAtMs !== null) return;
    stream.cancelledAtMs = this.#now_ms();
    this.#metrics.cancelled();
    this.#native.cancel(stream.id);
  }

  /** The caller has gone: cancel, and drop what still comes. */
  abandon(stream: TokenStream): void {
    stream.sender = null;
    stream.pending = null;
    this.cancel(stream);
  }

  /** False when no live request has that id. */
  abort(requestId: string): boolean {
    const streams = this.#byRequestId.get(requestId);
    if (!streams) return false;
    for (const stream of streams) this.cancel(stream);
    return true;
  }

  cancelAll(error: QuernError | null = null): void {
    for (const stream of this.#live.values()) this.cancel(stream, error);
  }

  #takeId(): number {
    do this.#nextId = this.#nextId === 0xffff_ffff ? 1 : this.#nextId + 1;
    while (this.#live.has(this.#nextId));
    return this.#nextId;
  }

  #onStep(step: NativeStep): void {
    this.#running = step.running;
    this.#waiting = step.waiting;
    if (step.run && this.#spans.active) this.#spans.step(step.run, (id) => this.#live.get(id)?.trace);
    for (const { id, choice, tokenId, logprobs } of step.tokens) {
      const stream = this.#live.get(id);
      if (!stream) continue;
      stream.produced[choice] = (stream.produced[choice] ?? 0) + 1;
      if (!stream.sender) continue;
      const event = stream.sender.eventFor(stream, choice);
      event.tokenIds.push(tokenId);
      if (logprobs) event.logprobs.push(position(logprobs));
      this.#flushing.add(stream.sender);
    }
    for (const { id, positions } of step.prompts) {
      const stream = this.#live.get(id);
      if (!stream?.sender) continue;
      stream.sender.eventFor(stream, 0).promptLogprobs = positions.map(position);
      this.#flushing.add(stream.sender);
    }
    for (const end of step.finished) this.#onFinished(end);
    this.#metrics.step(step);
    for (const sender of this.#flushing) sender.flush(step.running, step.waiting);
    this.#flushing.clear();
  }

  #onFinished(end: NativeFinished): void {
    const stream = this.#live.get(end.id);
    if (!stream) return;
    this.#live.delete(end.id);
    const same = this.#byRequestId.get(stream.requestId);
    same?.delete(stream);
    if (same?.size === 0) this.#byRequestId.delete(stream.requestId);
    const cancelledForMs = stream.cancelledAtMs === null ? null : this.#now_ms() - stream.cancelledAtMs;
    this.#metrics.finished(end, { cancelledForMs, trace: extract(stream.request.traceparent) });
    const error = errorOf(end, stream.override);
    if (stream.trace) this.#spans.end(stream.trace, end, error);
    if (stream.sender) {
      const event: Finished = finishedEvent(stream.handle, end, stream.override);
      stream.sender.finish(stream, event);
      this.#flushing.add(stream.sender);
    }
    stream.onEnd(error);
  }
}
