// One engine as this gateway sees it: one bidirectional Session for all requests, reopened with back-off when it breaks.
// Data: live handles. A handle lives from submit to its one Finished, or to the break of its Session, whichever is first.
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type DescribeResponse,
  EngineServiceClient,
  EngineServiceService,
  type Finished,
  type GenerationRequest,
  type SessionRequest,
  type SessionResponse,
  type StepBatch,
  type TokenEvent,
} from '#gen/quern/engine/v1/engine.ts';
import { MODEL_REJECTED, QuernError, toQuernError } from '#kit/errors.ts';
import { LiveMap } from '#kit/live-map.ts';
import type { Log } from '#kit/log.ts';
import { type ClientTls, openChannel, unary } from '#kit/rpc/client.ts';
import { SessionCall } from '#kit/rpc/session-call.ts';
import { DESCRIBE_TIMEOUT_MS, RECONNECT_MAX_MS, RECONNECT_MIN_MS, ZOMBIE_AFTER_MS } from './limits.ts';
import { StepTurns, type Told } from './step-turns.ts';

/** What a request hears of its handle. onStep comes once per engine step, after that step's other events. */
export type HandleListener = {
  onTokens(event: TokenEvent): void;
  onFinished(finished: Finished): void;
  onStep(): void;
  /** The Session is gone before the end; the handle with it. */
  onBroken(error: QuernError): void;
  /** A listener threw: the handle is cancelled, nothing more is heard. */
  onFault(error: unknown): void;
};

/** The engine's end of a request that its owner has given up, for the account of it. Must not throw. */
export type LateEnd = (finished: Finished) => void;

type Handle = Told & {
  readonly id: number;
  listener: HandleListener | null;
  /** Hears the end of a handle that has no listener any more. */
  onLateEnd: LateEnd | null;
  /** What the last step brought and is still to be told. */
  readonly events: TokenEvent[];
  finished: Finished | null;
  cancelledAtMs: number;
};

export type EngineOptions = {
  /** Stable over restarts: the address. */
  address: string;
  /** The served name by configuration. */
  model: string;
  sharedToken?: string | undefined;
  tls?: ClientTls | undefined;
  log: Log;
  /** Called whenever `ready` may have changed. */
  onChange?: () => void;
  /** A Session is open to an instance of the engine that none was open to before. */
  onLoaded?: (description: DescribeResponse) => void;
  /** The engine says that it refuses its model; told once for each that it refuses for another reason. */
  onRejected?: (error: QuernError) => void;
  /** An open Session broke, and not because the engine or this gateway stops. Told before its handles are. */
  onCrash?: (error: QuernError, handles: number) => void;
  /** From a Cancel to the end of its handle. */
  onCancelled?: (seconds: number) => void;
};

const HANDLE_MAX = 0xffffffff;
/** A Session that lived this long starts the back-off anew. */
const STEADY_MS = 5_000;

/**
 * Invariant: every submitted handle hears exactly one of onFinished, onBroken, onFault, unless its owner cancelled it
 * with `forget`. One listener's failure touches no other handle.
 */
export class EngineSession {
  readonly name: string;
  readonly model: string;
  readonly #options: EngineOptions;
  readonly #client: EngineServiceClient;
  readonly #stop = new AbortController();
  readonly #handles = new LiveMap<number, Handle>();
  readonly #turns = new StepTurns<Handle>((handle) => this.#tellStep(handle));
  #call: SessionCall<SessionRequest, SessionResponse> | null = null;
  #description: DescribeResponse | null = null;
  /** The instance that onLoaded was told of last, and the refusal that onRejected was. */
  #told = { instance: '', refusal: '' };
  #nextHandle = 1;
  #draining = false;
  #running = 0;
  #waiting = 0;
  #loop: Promise<void> | null = null;

  constructor(options: EngineOptions) {
    this.name = options.address;
    this.model = options.model;
    this.#options = options;
    this.#client = openChannel(EngineServiceClient, {
      address: options.address,
      sharedToken: options.sharedToken,
      tls: options.tls,
      options: { 'grpc.max_reconnect_backoff_ms': RECONNECT_MAX_MS },
    });
  }

  /** True when a submit would be taken. */
  get ready(): boolean {
    return this.#call !== null && !this.#draining;
  }

  get inFlight(): number {
    return this.#handles.size;
  }

  /** The model and its limits; null before the first contact. */
  get description(): DescribeResponse | null {
    return this.#description;
  }

  /** Sequences on the engine after its last step, all gateways together. */
  get load(): { running: number; waiting: number } {
    return { running: this.#running, waiting: this.#waiting };
  }

  /** Handles cancelled long ago that the engine has not ended: must be 0. */
  get zombies(): number {
    const before = performance.now() - ZOMBIE_AFTER_MS;
    let count = 0;
    for (const handle of this.#handles.values())
      if (handle.cancelledAtMs > 0 && handle.cancelledAtMs < before) count += 1;
    return count;
  }

  start(): void {
    this.#loop ??= this.#run(this.#stop.signal);
  }

  /** Ends the Session, which cancels all its handles at the engine. */
  async close(): Promise<void> {
    this.#stop.abort(new QuernError('CANCELLED', 'the gateway is closing'));
    await this.#loop;
    this.#client.close();
  }

  /** Gives a request to the engine. Throws UNAVAILABLE when the Session is not there. */
  submit(request: GenerationRequest, listener: HandleListener): number {
    const call = this.#call;
    if (!call)
      throw new QuernError('UNAVAILABLE', `the engine of "${this.model}" is not reachable`, { reason: 'NO_ENGINE' });
    const handle = this.#takeHandle();
    const fresh = { events: [], finished: null, hasBegun: false, cancelledAtMs: 0 };
    call.write({ command: { $case: 'submit', value: { handle, request } } });
    this.#handles.set(handle, { id: handle, listener, onLateEnd: null, ...fresh });
    return handle;
  }

  /**
   * Asks the engine to end the handle. With `forget` its listener hears nothing more, and `onLateEnd` at most the end. Unknown
   * handles are ignored.
   */
  cancel(handle: number, options: { forget: boolean; onLateEnd?: LateEnd }): void {
    const entry = this.#handles.get(handle);
    if (!entry) return;
    if (options.forget) {
      entry.listener = null;
      entry.onLateEnd = options.onLateEnd ?? null;
    }
    if (entry.cancelledAtMs > 0) return;
    entry.cancelledAtMs = performance.now();
    this.#call?.write({ command: { $case: 'cancel', value: { handle } } });
  }

  #takeHandle(): number {
    while (this.#handles.has(this.#nextHandle))
      this.#nextHandle = this.#nextHandle >= HANDLE_MAX ? 1 : this.#nextHandle + 1;
    const handle = this.#nextHandle;
    this.#nextHandle = handle >= HANDLE_MAX ? 1 : handle + 1;
    return handle;
  }

  async #run(signal: AbortSignal): Promise<void> {
    let delayMs = RECONNECT_MIN_MS;
    while (!signal.aborted) {
      const openedAt = performance.now();
      try {
        await this.#serve(signal);
      } catch (error) {
        this.#broken(toQuernError(error), delayMs === RECONNECT_MIN_MS);
      }
      if (performance.now() - openedAt > STEADY_MS) delayMs = RECONNECT_MIN_MS;
      await sleep(delayMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {});
      delayMs = Math.min(delayMs * 2, RECONNECT_MAX_MS);
    }
  }

  /** One Session from its first message to its end. Always throws. */
  async #serve(signal: AbortSignal): Promise<never> {
    const { log, model, onChange } = this.#options;
    this.#description = await unary(this.#client, 'describe', {}, { signal, timeoutMs: DESCRIBE_TIMEOUT_MS });
    if (this.#description.model !== model) {
      log.warn(
        { engine: this.name, expected: model, actual: this.#description.model },
        'the engine names its model otherwise',
      );
    }
    const ended = Promise.withResolvers<QuernError | null>();
    this.#call = new SessionCall(this.#options, EngineServiceService.session, {
      signal,
      onMessage: ({ step }) => step && this.#onBatch(step),
      onEnd: ended.resolve,
    });
    this.#draining = false;
    log.info({ engine: this.name, model, instance_id: this.#description.instanceId }, 'engine session open');
    this.#tellLoaded(this.#description);
    onChange?.();
    const message = `the engine of "${model}" ended its session`;
    throw (await ended.promise) ?? new QuernError('UNAVAILABLE', message, { reason: 'ENGINE_GONE' });
  }

  #tellLoaded(description: DescribeResponse): void {
    const { instanceId } = description;
    if (instanceId === this.#told.instance) return; // the same one, after a break
    this.#told = { instance: instanceId, refusal: '' };
    this.#options.onLoaded?.(description);
  }

  /** An engine that refuses its model is started again and again, and says the same each time. */
  #tellRejected(error: QuernError): void {
    if (error.details.reason !== MODEL_REJECTED || error.message === this.#told.refusal) return;
    this.#told = { instance: '', refusal: error.message };
    this.#options.onRejected?.(error);
  }

  #broken(error: QuernError, loud: boolean): void {
    const { log, onChange, onCrash } = this.#options;
    const wasOpen = this.#call !== null;
    if (!wasOpen) this.#tellRejected(error);
    this.#call = null;
    this.#running = 0;
    this.#waiting = 0;
    this.#turns.finish(); // what came before the break
    const lost = [...this.#handles.values()];
    this.#handles.clear();
    if (!this.#stop.signal.aborted && (wasOpen || loud)) {
      log.warn({ engine: this.name, err: error, handles: lost.length }, 'engine session broken; reconnecting');
    }
    onChange?.();
    const isPlanned = this.#draining || this.#stop.signal.aborted || error.details.reason === 'DRAINING';
    if (wasOpen && !isPlanned) onCrash?.(error, lost.length);
    for (const handle of lost) handle.listener?.onBroken(error);
  }

  /** Nothing but sorting happens here: telling the first steps must not wait for the text of all others. */
  #onBatch(batch: StepBatch): void {
    this.#turns.finish();
    this.#running = batch.running;
    this.#waiting = batch.waiting;
    const touched: Handle[] = [];
    for (const event of batch.tokens) {
      const handle = this.#handles.get(event.handle);
      if (!handle) continue;
      if (handle.events.length === 0) touched.push(handle);
      handle.events.push(event);
    }
    for (const finished of batch.finished) {
      const handle = this.#handles.get(finished.handle);
      if (!handle) continue;
      if (handle.events.length === 0) touched.push(handle);
      handle.finished = finished;
    }
    this.#turns.add(touched);
  }

  #tellStep(handle: Handle): void {
    const { events, finished } = handle;
    if (finished) this.#ended(handle);
    if (finished && !handle.listener) handle.onLateEnd?.(finished);
    try {
      for (const event of events) handle.listener?.onTokens(event);
      if (finished) handle.listener?.onFinished(finished);
      handle.listener?.onStep();
    } catch (error) {
      this.#fault(handle, error);
    }
    events.length = 0;
  }

  #ended(handle: Handle): void {
    this.#handles.delete(handle.id);
    if (handle.cancelledAtMs > 0) this.#options.onCancelled?.((performance.now() - handle.cancelledAtMs) / 1000);
  }

  /** Never throws: the others are to be told, and in a turn of the event loop of its own nobody would catch it. */
  #fault(handle: Handle, error: unknown): void {
    const { listener } = handle;
    handle.listener = null;
    this.cancel(handle.id, { forget: true });
    try {
      listener?.onFault(error);
    } catch (cause) {
      this.#options.log.error({ err: cause, engine: this.name }, 'a failed request could not be ended');
    }
  }

  /** The engine refused a submit because it drains: no more requests go there until its next Session. */
  markDraining(): void {
    this.#draining = true;
    this.#options.onChange?.();
  }
}
