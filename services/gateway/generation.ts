// One request from its typed form to its last event: tokenizer, admission, engine, text. Read this first.
//
//   generate() -> render the prompt -> charge admission -> pick a replica -> submit
//   engine step -> #onTokens (text assembly, stop strings) -> #onStep (delivery: one write per choice) -> ... -> #onFinished -> end
//
// Data: choices (what the client sees), legs (what the engines know). There is one leg until a Session breaks, then one per
// unfinished choice, each resuming from its own tokens.
import { FinishReason, type PositionLogprobs, type Timings, type Usage } from '#gen/quern/common/v1/common.ts';
import type { Finished, TokenEvent } from '#gen/quern/engine/v1/engine.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { type Choice, reasoningTokensOf } from './choice.ts';
import type { GatewayContext } from './context.ts';
import { armDeadlines } from './deadlines.ts';
import { Delivery } from './delivery.ts';
import { engineLost, engineRefusal, failureOf } from './engine-refusal.ts';
import { effectiveClass, engineRequest } from './engine-request.ts';
import type { HandleListener } from './engine-session.ts';
import { type Caller, type GenerationEnd, type GenerationSink, outcomeOf } from './generation-events.ts';
import { type Leg, Legs } from './legs.ts';
import { END_WAIT_MS, ENGINE_WAIT_MS, RESUME_WAIT_MS, RESUMES_MAX } from './limits.ts';
import type { ServedModel } from './models.ts';
import { type Prepared, prepare } from './preparation.ts';
import { affinityKey } from './replica-picker.ts';
import { RequestAccount } from './request-account.ts';
import { admitted, charged, routed } from './stage-spans.ts';
import { promptLogprobs } from './text-assembler.ts';
import { Timers } from './timers.ts';
import { checkRequest, type TypedRequest } from './typed-request.ts';

/** Made once: an error per request would cost a stack trace each. */
const ENDED = new QuernError('CANCELLED', 'the request has ended');

/** Starts a request. Never throws: refusals come through sink.fail. */
export function generate(
  context: GatewayContext,
  request: TypedRequest,
  caller: Caller,
  sink: GenerationSink,
): Generation {
  const generation = new Generation(context, request, caller, sink);
  generation.start();
  return generation;
}

export class Generation {
  readonly requestId: string;
  /** Resolves after end or fail. */
  readonly done: Promise<void>;
  readonly #context: GatewayContext;
  readonly #request: TypedRequest;
  readonly #caller: Caller;
  #sink: GenerationSink;
  readonly #account: RequestAccount;
  readonly #resolveDone: () => void;
  readonly #stop = new AbortController();
  readonly #timers = new Timers();
  readonly #legs = new Legs();
  #cleanups: (() => void)[] = [];
  #state: 'preparing' | 'running' | 'ending' | 'done' = 'preparing';
  #model: ServedModel | null = null;
  #prepared: Prepared | null = null;
  #choices: readonly Choice[] = [];
  #delivery: Delivery | null = null;
  #resubmitting = false;
  #sawPromptLogprobs = false;
  #stepHasTokens = false;
  #cachedTokens = 0;
  #timings: Timings | undefined;

  constructor(context: GatewayContext, request: TypedRequest, caller: Caller, sink: GenerationSink) {
    this.#context = context;
    this.#request = request;
    this.#caller = caller;
    this.#sink = sink;
    this.requestId = request.requestId || uuidv7();
    this.#account = new RequestAccount(context, { request, caller, requestId: this.requestId });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.done = promise;
    this.#resolveDone = resolve;
  }

  start(): void {
    const { signal } = this.#caller;
    const onAbort = (): void => this.abort(toQuernError(signal.reason));
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    this.#cleanups.push(() => signal.removeEventListener('abort', onAbort));
    this.#prepare().catch((error) => this.#fail(toQuernError(error)));
  }

  /** Ends the request as cancelled, with what there is: an explicit Cancel, not a lost client. */
  cancel(reason: QuernError): void {
    if (this.#state === 'preparing') this.#fail(reason);
    else if (this.#state === 'running') this.#endEarly(FinishReason.FINISH_REASON_CANCELLED);
  }

  /** The sink can take deltas again. */
  resume(): void {
    if (this.#state === 'running') this.#delivery?.resume();
  }

  // ---- from the request to the engine

  async #prepare(): Promise<void> {
    const { models, requests, spans } = this.#context;
    const { principal, trace, samplingPrefix = '' } = this.#caller;
    const request = this.#request;
    checkRequest(request, samplingPrefix);
    this.#model = models.resolve(request.model);
    this.#account.named(this.#model.name);
    const priorityClass = effectiveClass(request, principal);
    const ticket = admitted(this.#context, { principal, priorityClass, trace });
    this.#cleanups.push(() => ticket.release());
    this.#cleanups.push(requests.add(principal, this.requestId, this));
    this.#sink = this.#account.accepted(this.#sink, this);
    armDeadlines(this.#timers, request, {
      hard: (error) => this.abort(error),
      soft: (error) => this.#softDeadline(error),
    });
    const call = { signal: this.#stop.signal, trace };
    this.#account.enter('tokenize');
    const prepared = await prepare(this.#context, { request, model: this.#model, principal, samplingPrefix }, call);
    if (this.#isDone()) return;
    const { prompt, sampling } = prepared;
    charged(spans, trace, ticket, prompt.tokenIds.length + (sampling.maxTokens ?? 0) * (sampling.n ?? 1));
    this.#start(prepared);
    // A run has more to lose than a request that has not begun: it waits as one does that is carried over.
    await this.#submit(prepared, this.#caller.runId === undefined ? ENGINE_WAIT_MS : RESUME_WAIT_MS);
  }

  #start(prepared: Prepared): void {
    const { choices } = prepared;
    this.#prepared = prepared;
    this.#choices = choices;
    this.#delivery = new Delivery({
      choices,
      sink: this.#sink,
      timers: this.#timers,
      coalesceMs: this.#request.coalesceMs,
      onFault: (error) => this.#onFault(error),
    });
  }

  #softDeadline(error: QuernError): void {
    if (this.#state === 'running') this.#endEarly(FinishReason.FINISH_REASON_LENGTH);
    else if (this.#state === 'preparing') this.#fail(error);
  }

  /** Submits every unfinished choice that is not with an engine. */
  async #submit({ model, prompt, sampling }: Prepared, waitMs: number): Promise<void> {
    const { trace } = this.#caller;
    const cacheSalt = this.#context.cacheSalt(this.#caller.principal.tenant);
    const { signal } = this.#stop;
    this.#account.enter('route');
    const from = { model, key: affinityKey(cacheSalt, prompt.tokenIds), trace, resumes: this.#account.resumes };
    const engine = await routed(this.#context, from, { waitMs, signal });
    if (this.#isDone()) return;
    const engineTrace = this.#account.submitting(sampling);
    for (const choices of this.#legs.uncarried(this.#choices)) {
      const request = engineRequest({
        requestId: this.requestId,
        principal: this.#caller.principal,
        trace: engineTrace,
        request: this.#request,
        prompt,
        sampling,
        cacheSalt,
        n: choices.length,
        resumeTokenIds: choices.length === 1 ? (this.#choices[choices[0] as number] as Choice).ids : [],
        promptLogprobs: !this.#sawPromptLogprobs,
        elapsedMs: this.#account.elapsedMs,
      });
      const leg: Leg = { engine, handle: 0, choices };
      leg.handle = engine.submit(request, this.#listen(leg));
      this.#legs.add(leg);
    }
    if (this.#state === 'preparing') {
      this.#state = 'running';
      const { traceId } = trace;
      const promptTokenIds = this.#request.returnTokenIds ? [...prompt.tokenIds] : [];
      this.#sink.accepted({ requestId: this.requestId, model: model.name, traceId, promptTokenIds });
      // A prompt of one token has no position with a log probability: the engine sends nothing.
      if (sampling.promptLogprobs !== undefined && prompt.tokenIds.length === 1) this.#onPromptLogprobs([]);
    }
  }

  // ---- what the engine says

  #listen(leg: Leg): HandleListener {
    return {
      onTokens: (event) => this.#onTokens(leg, event),
      onFinished: (finished) => this.#onFinished(leg, finished),
      onStep: () => this.#onStep(),
      onBroken: (error) => {
        this.#legs.drop(leg);
        if (this.#state === 'running' && !this.#resubmitting) this.#account.affected(error);
        this.#interrupted(error);
      },
      onFault: (error) => {
        this.#legs.drop(leg);
        this.#onFault(error);
      },
    };
  }

  #onTokens(leg: Leg, event: TokenEvent): void {
    if (this.#state !== 'running') return;
    const choice = this.#choices[leg.choices[event.choice] ?? -1];
    if (event.promptLogprobs.length > 0) this.#onPromptLogprobs(event.promptLogprobs);
    if (!choice || choice.finished || event.tokenIds.length === 0) return;
    this.#stepHasTokens = true;
    choice.push(event.tokenIds, event.logprobs);
  }

  #onPromptLogprobs(positions: readonly PositionLogprobs[]): void {
    if (this.#sawPromptLogprobs || !this.#prepared) return;
    this.#sawPromptLogprobs = true;
    const { vocabulary, prompt } = this.#prepared;
    const entries = promptLogprobs(vocabulary, prompt.tokenIds, positions);
    if (this.#request.sampling.promptLogprobs !== undefined) this.#sink.promptLogprobs(entries);
    if (this.#request.echo && this.#request.sampling.logprobs !== undefined) {
      for (const choice of this.#choices) choice.echoLogprobs = entries;
    }
  }

  #onFinished(leg: Leg, finished: Finished): void {
    this.#legs.drop(leg);
    if (finished.status && finished.status.code !== 0) {
      const error = engineRefusal(finished.status, this.#caller.samplingPrefix ?? '');
      if (error.code === 'UNAVAILABLE') {
        if (error.details.reason === 'DRAINING') leg.engine.markDraining();
        this.#interrupted(error);
      } else if (this.#state === 'running') {
        this.#account.refusedByEngine(error);
        this.#fail(error);
      }
      return;
    }
    this.#timings ??= finished.timings;
    this.#cachedTokens ||= finished.usage?.cachedTokens ?? 0;
    for (const end of finished.choices) {
      const choice = this.#choices[leg.choices[end.choice] ?? -1];
      if (!choice || choice.finished) continue;
      const failure = failureOf(end.reason);
      if (failure) {
        this.#fail(failure);
        return;
      }
      choice.finish(end.reason, end.stopTokenId ?? null);
    }
  }

  /** One engine step is over: what it brought goes out, in one write per choice. */
  #onStep(): void {
    if (this.#state === 'done') return;
    if (this.#state === 'ending') {
      if (this.#legs.isEmpty) this.#complete();
      return;
    }
    if (this.#stepHasTokens) this.#account.step();
    this.#stepHasTokens = false;
    if (this.#choices.every((choice) => choice.finished)) this.#finishLegs();
    else this.#delivery?.step();
  }

  // ---- ways to end

  /** All choices are done for the client; the engine's own end brings exact usage and timings. */
  #finishLegs(): void {
    this.#delivery?.flush();
    this.#account.lastToken();
    this.#state = 'ending';
    if (this.#legs.isEmpty) {
      this.#complete();
      return;
    }
    this.#legs.cancel();
    this.#timers.after(END_WAIT_MS, () => this.#complete());
  }

  /** Ends with what there is. */
  #endEarly(reason: FinishReason): void {
    this.#guarded(() => {
      for (const choice of this.#choices) if (!choice.finished) choice.finish(reason);
      this.#finishLegs();
    });
  }

  #onFault(error: unknown): void {
    const fault = toQuernError(error);
    if (fault.code === 'INTERNAL')
      this.#context.log.error({ err: error, request_id: this.requestId }, 'request failed inside');
    this.#fail(fault);
  }

  /** An engine went away: go on elsewhere, or there again, from the tokens that were delivered. */
  #interrupted(error: QuernError): void {
    if (this.#state === 'ending' && this.#legs.isEmpty) this.#complete();
    if (this.#state !== 'running' || this.#resubmitting) return;
    const { resumes } = this.#account;
    if (resumes >= RESUMES_MAX) {
      this.#fail(engineLost(resumes + 1, error));
      return;
    }
    this.#account.resumed(error);
    this.#resubmitting = true;
    // The other legs of a broken Session are told in the same turn: one submit for all.
    queueMicrotask(() => this.#resubmit());
  }

  #resubmit(): void {
    this.#resubmitting = false;
    const prepared = this.#prepared;
    if (this.#state !== 'running' || !prepared) return;
    this.#guarded(() => {
      for (const choice of this.#choices) choice.finishIfComplete(prepared.sampling);
      if (this.#choices.every((choice) => choice.finished)) this.#finishLegs();
      else this.#submit(prepared, RESUME_WAIT_MS).catch((cause) => this.#fail(toQuernError(cause)));
    });
  }

  /** The caller is gone or out of time, or the gateway stops: the engine hears it at once, nobody waits. */
  abort(reason: QuernError): void {
    this.#fail(reason);
  }

  #fail(error: QuernError): void {
    if (this.#isDone()) return;
    this.#settle(error.code.toLowerCase(), error);
    try {
      this.#sink.fail(error);
    } finally {
      this.#resolveDone();
    }
  }

  #complete(): void {
    if (this.#isDone() || this.#account.holds(() => this.#complete())) return;
    const end = this.#end();
    const reason = this.#choices[0]?.finished ?? FinishReason.FINISH_REASON_UNSPECIFIED;
    this.#settle(outcomeOf(reason), null);
    try {
      this.#sink.end(end);
    } catch (error) {
      this.#context.log.error({ err: error, request_id: this.requestId }, 'the last event could not be written');
    } finally {
      this.#resolveDone();
    }
  }

  #end(): GenerationEnd {
    return {
      requestId: this.requestId,
      model: (this.#model as ServedModel).name,
      usage: this.#usage(),
      timings: this.#timings,
      traceId: this.#caller.trace.traceId,
      seed: this.#prepared?.sampling.seed ?? 0n,
      infill: this.#prepared?.prompt.infill ?? null,
      choiceTokens: this.#choices.map((choice) => choice.tokenCount),
      ...reasoningTokensOf(this.#choices),
    };
  }

  #usage(): Usage {
    const promptTokens = this.#prepared?.prompt.tokenIds.length ?? 0;
    // Counted here: of the engine's tokens those behind a stop string are not the client's.
    const completionTokens = this.#choices.reduce((sum, choice) => sum + choice.tokenCount, 0);
    return { promptTokens, cachedTokens: Math.min(this.#cachedTokens, promptTokens), completionTokens };
  }

  /** Frees everything and tells that the request has ended. */
  #settle(outcome: string, failure: QuernError | null): void {
    this.#state = 'done';
    this.#legs.forget(this.#account.lateEnd());
    this.#stop.abort(ENDED);
    this.#timers.clearAll();
    for (const cleanup of this.#cleanups) cleanup();
    this.#cleanups = [];
    const usage = this.#usage();
    this.#account.settled({ outcome, failure, usage, timings: this.#timings, choices: this.#choices });
  }

  /** A method, so that the type checker does not take the state as known across an await. */
  #isDone(): boolean {
    return this.#state === 'done';
  }

  #guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#onFault(error);
    }
  }
}
