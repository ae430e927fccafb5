/**
 * One request of the editor from its arrival to its one answer: refused, from the cache, from a query that runs already,
 * or from a new one. Knows neither the protocol nor the transport.
 */
import type { CapabilityBook } from './capabilities.ts';
import type { Clock } from './clock.ts';
import { Debounce } from './debounce.ts';
import type { Document, Documents, Position } from './documents.ts';
import { scopeEnd } from './filters/scope.ts';
import type { Flight, FlightOptions } from './flight.ts';
import { Flights } from './flights.ts';
import type { ContextChunk, FailureKind, InfillQuery, InfillSource, Priority } from './infill-source.ts';
import { CAPABILITIES_MS_MAX, COLLECT_MS_MAX, DOCUMENT_CHARS_MAX, REST_OF_LINE_CHARS_MAX } from './limits.ts';
import { type Place, placeOf, type SelectedCompletion } from './place.ts';
import { type Presentation, present, type Suggestion } from './presentation.ts';
import { endingOf, queryOf, wantsSingleLine } from './query.ts';
import type { Reason } from './reasons.ts';
import { SendGate } from './send-gate.ts';
import { languageEnabled, type Settings } from './settings.ts';
import { Speculation } from './speculation.ts';
import { type CacheKey, SuggestionCache } from './suggestion-cache.ts';
import { TextHash } from './text-hash.ts';

export type CompletionRequest = {
  uri: string;
  position: Position;
  /** Of the document when it was asked; absent: as it is now. */
  version?: number | undefined;
  /** A person pressed a key for it; otherwise typing did. */
  invoked: boolean;
  selected?: SelectedCompletion | null;
};

export type Answer = {
  /** Names this answer in events; the same text from the cache keeps the id of the query that it came from. */
  id: string;
  suggestions: Suggestion[];
  /** Why there is none; null where there is. */
  reason: Reason | null;
  /** The filter that took the text, for FILTERED. */
  rule: string | null;
  from: 'none' | 'cache' | 'stream';
  /** More was still to come when the soft deadline passed. */
  partial: boolean;
  /** Of the query at the mesh, known before it answers; "" = none was sent. */
  traceId: string;
};

export type CompleterParts = {
  clock: Clock;
  documents: Documents;
  source: InfillSource;
  capabilities: CapabilityBook;
  settings: () => Settings;
  /** Unique in the mesh. */
  newId: () => string;
  /** 32 hex digits. */
  newTraceId: () => string;
  /** Path in the workspace and its name; null where the file may not be sent. */
  describe: (document: Document) => { path: string; repository: string } | null;
  /** What of other files goes beside the prompt; late answers are not waited for. */
  chunksFor: (place: Place) => Promise<readonly ContextChunk[]> | readonly ContextChunk[];
};

type Turn = { request: CompletionRequest; place: Place; singleLine: boolean; arrivedAt: number; signal: AbortSignal };

const nothing = (reason: Reason, more: Partial<Answer> = {}): Answer => ({
  id: '',
  suggestions: [],
  reason,
  rule: null,
  from: 'none',
  partial: false,
  traceId: '',
  ...more,
});

const FAILURE_REASONS: Record<FailureKind, Reason> = {
  offline: 'OFFLINE',
  overloaded: 'OVERLOADED',
  unauthenticated: 'UNAUTHENTICATED',
  no_fim: 'MODEL_NO_FIM',
  timeout: 'TIMEOUT',
  cancelled: 'CANCELLED',
  failed: 'FAILED',
};

export class Completer {
  readonly #parts: CompleterParts;
  readonly #cache: SuggestionCache;
  readonly #debounce = new Debounce();
  readonly #flights: Flights;
  readonly #gate: SendGate;
  /** A mesh under load sheds what is asked ahead first: that says nothing about what somebody waits for. */
  readonly #aheadGate: SendGate;
  readonly #speculation = new Speculation();
  /** Tells the queries of this editor from those of another with the same file open. */
  readonly #session: string;
  #turn: AbortController | null = null;
  #stopListening: () => void;
  /** Of the last failure, for whoever asks why. */
  lastFailure = '';

  constructor(parts: CompleterParts) {
    this.#parts = parts;
    this.#session = parts.newId();
    this.#cache = new SuggestionCache(parts.clock);
    this.#flights = new Flights(parts.clock);
    this.#gate = new SendGate(parts.clock);
    this.#aheadGate = new SendGate(parts.clock);
    this.#stopListening = parts.documents.onEdit(() => this.#debounce.noteTyping(parts.clock.now()));
  }

  /** Queries on their way to the mesh and back. */
  get inFlight(): number {
    return this.#flights.running.length;
  }

  /** The mesh's address, key or model changed, or completion was turned off: nothing old may be shown. */
  reset(): void {
    this.#turn?.abort();
    this.#flights.cancelAll();
    this.#cache.clear();
    this.#gate.reset();
    this.#aheadGate.reset();
  }

  /** A request waits, or a query runs. */
  get busy(): boolean {
    return this.#turn !== null || this.inFlight > 0;
  }

  /** What an automatic request at `position` would ask; null where none would be sent. */
  async queryAt(uri: string, position: Position): Promise<InfillQuery | null> {
    const found = this.#placeOf({ uri, position, invoked: false });
    if ('reason' in found || this.#gate.closed || this.#parts.capabilities.cannotInfill) return null;
    const { place } = found;
    const chunks = this.#parts.settings().crossFile ? await this.#parts.chunksFor(place) : [];
    return this.#flightOptions(place, false, 'automatic', chunks)?.query ?? null;
  }

  close(): void {
    this.#stopListening();
    this.reset();
  }

  /** Never throws; settles at once when `signal` aborts or a newer request comes. */
  async complete(request: CompletionRequest, { signal }: { signal: AbortSignal }): Promise<Answer> {
    const arrivedAt = this.#parts.clock.now();
    this.#turn?.abort(); // single flight: who asks anew does not wait for the old answer
    const turn = new AbortController();
    this.#turn = turn;
    const cancel = (): void => turn.abort();
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      const found = this.#placeOf(request);
      if ('reason' in found) return nothing(found.reason);
      const { place } = found;
      const singleLine = wantsSingleLine(place, this.#parts.settings(), request.invoked);
      return await this.#answer({ request, place, singleLine, arrivedAt, signal: turn.signal });
    } finally {
      signal.removeEventListener('abort', cancel);
      if (this.#turn === turn) this.#turn = null;
    }
  }

  #placeOf({ uri, position, version, invoked, selected }: CompletionRequest): { place: Place } | { reason: Reason } {
    const { documents } = this.#parts;
    const settings = this.#parts.settings();
    const document = documents.get(uri);
    if (!document) return { reason: settings.enabled ? 'STALE' : 'DISABLED' };
    if (!languageEnabled(settings, document.languageId)) return { reason: 'DISABLED' };
    if (!invoked && !settings.automatic) return { reason: 'DISABLED' };
    if (document.text.length > DOCUMENT_CHARS_MAX || this.#parts.describe(document) === null)
      return { reason: 'EXCLUDED' };
    const { window } = this.#parts.capabilities.room(settings.maxTokens);
    const place = placeOf(document, position, selected ?? null, window);
    if (!place || (version !== undefined && version !== document.version)) return { reason: 'STALE' };
    if (!invoked && place.lineSuffix.trim().length > REST_OF_LINE_CHARS_MAX) return { reason: 'PLACE' };
    return { place };
  }

  async #answer(turn: Turn): Promise<Answer> {
    const { request, signal } = turn;
    if (signal.aborted) return nothing('CANCELLED');
    // Who presses the key again wants something else than what they see.
    const cached = request.invoked ? null : this.#fromCache(turn);
    if (cached) return cached;
    if (!request.invoked) this.#flights.noteTrigger();
    const running = request.invoked ? null : this.#flights.findFor(turn.place);
    const joined = running && (await this.#follow(running, turn));
    if (joined) return joined;
    this.#flights.abandon();
    const closed = request.invoked ? null : this.#gate.closed;
    if (closed) return nothing(closed);
    const { capabilities, source } = this.#parts;
    if (request.invoked) source.reconnect?.('asked');
    const learning = capabilities.learn(this.#parts.settings().model, { again: request.invoked });
    if (!learning && capabilities.cannotInfill) return this.#cannotInfill();
    const survive = !request.invoked && this.#flights.starving && !this.#flights.spent;
    if (!request.invoked && !survive) {
      await this.#sleep(this.#debounce.delayMs(turn.place, this.#flights), signal);
      if (signal.aborted) return nothing('DEBOUNCED');
    }
    const chunks = await this.#chunks(turn);
    if (learning) await Promise.race([learning, this.#sleep(CAPABILITIES_MS_MAX, signal)]);
    if (signal.aborted) return nothing('DEBOUNCED');
    if (this.#isStale(turn.place)) return nothing('STALE');
    if (capabilities.cannotInfill) return this.#cannotInfill();
    const flight = this.#send(turn, request.invoked ? 'invoked' : 'automatic', chunks, survive);
    if (!flight) return nothing('EXCLUDED');
    const answer = await this.#follow(flight, turn);
    if (answer === null) this.#flights.noteAnswer();
    return answer ?? nothing('EMPTY', { id: flight.query.requestId, traceId: flight.traceId, from: 'stream' });
  }

  #cannotInfill(): Answer {
    this.lastFailure = 'the model has no fill-in-the-middle; name one that has it in the setting model';
    return nothing('MODEL_NO_FIM');
  }

  #keyOf({ prefix, suffix, uri }: Place): CacheKey {
    const { settings, capabilities } = this.#parts;
    return { prefix, suffix, uri, model: `${settings().model}\0${capabilities.fingerprint}` };
  }

  #fromCache(turn: Turn): Answer | null {
    const { place } = turn;
    const hit = this.#cache.find(this.#keyOf(place));
    if (!hit) return null;
    const shown = present(hit.texts, place, hit);
    this.#flights.noteAnswer();
    // The model has said its word about this place: it would say it again.
    if (shown.suggestions.length === 0) return nothing('FILTERED', { id: hit.id, rule: shown.rule, from: 'cache' });
    this.#speculate(turn, shown, []);
    return { ...nothing('EMPTY'), id: hit.id, suggestions: shown.suggestions, reason: null, from: 'cache' };
  }

  async #chunks({ place, signal }: Turn): Promise<readonly ContextChunk[]> {
    if (!this.#parts.settings().crossFile) return [];
    const found = this.#parts.chunksFor(place);
    if (!(found instanceof Promise)) return found;
    const late = this.#sleep(COLLECT_MS_MAX, signal).then((): readonly ContextChunk[] => []);
    return Promise.race([found.catch((): readonly ContextChunk[] => []), late]);
  }

  #send(turn: Turn, priority: Priority, chunks: readonly ContextChunk[], survive: boolean): Flight | null {
    const options = this.#flightOptions(turn.place, turn.singleLine, priority, chunks);
    return options && this.#flights.start(options, survive);
  }

  #flightOptions(
    place: Place,
    singleLine: boolean,
    priority: Priority,
    chunks: readonly ContextChunk[],
  ): FlightOptions | null {
    const { clock, source, documents, capabilities, newId, newTraceId } = this.#parts;
    const settings = this.#parts.settings();
    const document = documents.get(place.uri);
    const described = document && this.#parts.describe(document);
    if (!described) return null;
    const lane = priority === 'speculative' ? 2 : this.#flights.freeLane;
    const query = queryOf({
      ...{ place, settings, priority, singleLine, chunks: capabilities.fit(chunks), ...described },
      requestId: newId(),
      traceId: newTraceId(),
      supersedeKey: `${this.#session}:${new TextHash().add(place.uri).value}:${lane}`,
      maxTokens: capabilities.room(settings.maxTokens).maxTokens,
    });
    const key = this.#keyOf(place);
    // A mesh that ends texts with their scope reads more of the code than this client does.
    const scoped = capabilities.ends(endingOf(singleLine, settings));
    return {
      ...{ clock, source, query, uri: place.uri, hardDeadlineMs: settings.hardDeadlineMs },
      wanted: (text) => (singleLine || scoped ? text.length : scopeEnd(text, place)),
      scoped,
      onEnd: (flight) => this.#ended(flight, key),
    };
  }

  #ended(flight: Flight, key: CacheKey): void {
    const { failure, query, firstTextAt, startedAt } = flight;
    const chars = flight.candidates.reduce((sum, { text }) => sum + text.length, 0);
    this.#speculation.noteGenerated(query.priority, chars);
    if (failure) {
      const gate = query.priority === 'speculative' && failure.kind === 'overloaded' ? this.#aheadGate : this.#gate;
      // A mesh that did not even accept the query in all that time is not there, or the connection to it is not.
      const isSilent = failure.kind === 'timeout' && !flight.accepted;
      const silence = `the mesh did not answer within ${this.#parts.settings().hardDeadlineMs} ms`;
      if (failure.kind !== 'cancelled') this.lastFailure = isSilent ? silence : failure.message;
      gate.failed(isSilent ? 'offline' : failure.kind, failure.retryAfterMs);
      if (isSilent) this.#parts.source.reconnect?.('silent');
      if (failure.kind === 'offline') this.#parts.capabilities.doubt();
      if (failure.kind !== 'timeout') return;
    } else {
      this.#gate.reset();
      if (query.priority === 'speculative') this.#aheadGate.reset();
    }
    if (firstTextAt !== null && query.priority !== 'speculative') this.#debounce.noteResponse(firstTextAt - startedAt);
    this.#cache.put(query.requestId, key, flight.textsBehind(''), query.singleLine);
  }

  /**
   * Waits until `flight` has what can be shown at the turn's place: all of it, or at the soft deadline what there is.
   * Null: it says nothing about this place, or no longer.
   */
  async #follow(flight: Flight, turn: Turn): Promise<Answer | null> {
    const { clock } = this.#parts;
    const { signal, place, arrivedAt } = turn;
    const { softDeadlineMs, hardDeadlineMs } = this.#parts.settings();
    const softAt = arrivedAt + softDeadlineMs;
    const hardAt = arrivedAt + hardDeadlineMs;
    let wake: () => void = () => {};
    const stopHearing = flight.onChange(() => wake());
    const onAbort = (): void => wake();
    signal.addEventListener('abort', onAbort, { once: true });
    const timers = [softAt, hardAt].map((at) => clock.after(Math.max(0, at - clock.now()), () => wake()));
    try {
      while (true) {
        if (signal.aborted) return nothing('CANCELLED', { traceId: flight.traceId });
        const answer = this.#readFlight(flight, turn, clock.now() >= softAt, clock.now() >= hardAt);
        if (answer === 'elsewhere') return null;
        if (answer) {
          if (answer.reason !== 'STALE') this.#flights.noteAnswer();
          return answer;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      stopHearing();
      signal.removeEventListener('abort', onAbort);
      for (const cancelTimer of timers) cancelTimer();
      // What was answered in part goes on into the cache; what nobody waits for is cancelled.
      if (signal.aborted) this.#flights.release(flight);
      else if (flight.typedSince(place) === null) this.#flights.release(flight);
    }
  }

  /** The answer that `flight` allows now; null to wait on; 'elsewhere' when it goes on differently than the user did. */
  #readFlight(flight: Flight, turn: Turn, soft: boolean, hard: boolean): Answer | 'elsewhere' | null {
    const { place } = turn;
    const ended = !flight.running || flight.failure !== null;
    if (this.#isStale(place)) return nothing('STALE', { traceId: flight.traceId });
    const typed = flight.typedSince(place);
    if (typed === null) return 'elsewhere';
    const texts = flight.textsBehind(typed);
    if (!ended && !hard && !(soft && texts.length > 0)) return null;
    const { traceId, failure, query } = flight;
    // Somebody else's query that made way for another: this place may still have one of its own.
    if (failure?.kind === 'cancelled' && query.prefix !== place.prefix) return 'elsewhere';
    if (failure && failure.kind !== 'timeout') return nothing(FAILURE_REASONS[failure.kind], { traceId });
    const shown = present(texts, place, query);
    const known = { id: query.requestId, traceId, from: 'stream' as const };
    if (shown.suggestions.length > 0) {
      if (ended) this.#speculate(turn, shown, query.chunks);
      return { ...nothing('EMPTY'), ...known, suggestions: shown.suggestions, reason: null, partial: !ended };
    }
    if (!ended && !hard) return null; // the filters may like what is to come
    if (shown.rule !== null) return nothing('FILTERED', { ...known, rule: shown.rule });
    return nothing(ended && !failure ? 'EMPTY' : 'TIMEOUT', known);
  }

  /** Asks for what may follow the first suggestion, as if it had been accepted. */
  #speculate(turn: Turn, shown: Presentation, chunks: readonly ContextChunk[]): void {
    const [draft] = shown.drafts;
    const settings = this.#parts.settings();
    if (!draft || turn.request.invoked || turn.place.selected || !settings.speculate) return;
    if (this.#gate.closed || this.#aheadGate.closed) return;
    if (!this.#speculation.allowed(settings.maxTokens)) return;
    const next = Speculation.placeBehind(turn.place, draft);
    const singleLine = wantsSingleLine(next, settings, false);
    if (this.#cache.find(this.#keyOf(next))) return;
    const options = this.#flightOptions(next, singleLine, 'speculative', chunks);
    if (options) this.#flights.speculate(options);
  }

  #isStale({ uri, version }: Place): boolean {
    return this.#parts.documents.get(uri)?.version !== version;
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        stop();
        signal.removeEventListener('abort', end);
        resolve();
      };
      const stop = this.#parts.clock.after(ms, end);
      if (signal.aborted) end();
      else signal.addEventListener('abort', end, { once: true });
    });
  }
}
