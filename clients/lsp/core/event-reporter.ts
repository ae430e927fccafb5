/** Tells the mesh what became of suggestions, in batches and beside all else: a report that fails costs a completion nothing. */
import type { Clock } from './clock.ts';
import type { Answer } from './completer.ts';
import { InfillFailure } from './infill-source.ts';
import {
  REPORT_BATCH_EVENTS,
  REPORT_CHARS_MAX,
  REPORT_ELAPSED_MS_MAX,
  REPORT_EVERY_MS,
  REPORT_LANGUAGE_CHARS_MAX,
  REPORT_LAST_EVENTS,
  REPORT_LAST_MS,
  REPORT_PAUSE_MS,
  REPORT_QUEUE_EVENTS,
} from './limits.ts';
import type { Reason } from './reasons.ts';
import { languageEnabled, type Settings } from './settings.ts';
import type { SuggestionEvent } from './suggestion-events.ts';

/** Numbers and names, no text. Null: not known. */
export type ReportedEvent = {
  /** Of the query; "" = none was sent. */
  requestId: string;
  choice: number;
  kind: SuggestionEvent['kind'] | 'not_shown';
  /** Of not_shown. */
  reason: string;
  /** Of shown: since the key. Of the others: since it was there. */
  elapsedMs: number | null;
  /** UTF-16 units accepted or kept. */
  characters: number | null;
  languageId: string;
  /** Of kept: since the acceptance. */
  afterSeconds: number | null;
  fromCache: boolean;
};

export type ReportSource = {
  /** 1..256 events in their order. Throws InfillFailure. */
  report(events: readonly ReportedEvent[], options: { signal: AbortSignal }): Promise<void>;
};

/** As the mesh names them; what it has no name for is OTHER. */
const REASONS: Record<Reason, string> = {
  ...{ DISABLED: 'DISABLED', DEBOUNCED: 'DEBOUNCED', CANCELLED: 'CANCELLED', STALE: 'STALE', FILTERED: 'FILTERED' },
  ...{ EMPTY: 'EMPTY', TIMEOUT: 'TIMEOUT', OVERLOADED: 'OVERLOADED', UNAUTHENTICATED: 'UNAUTHENTICATED' },
  ...{ MODEL_NO_FIM: 'MODEL_NO_FIM', OFFLINE: 'OFFLINE' },
  ...{ EXCLUDED: 'OTHER', PLACE: 'OTHER', FAILED: 'OTHER' },
};

const bounded = (value: number, most: number): number | null => (value <= most ? Math.round(value) : null);

export type ReporterParts = { clock: Clock; source: ReportSource; settings: () => Settings };

export class EventReporter {
  readonly #parts: ReporterParts;
  readonly #queue: ReportedEvent[] = [];
  #abort = new AbortController();
  #stopTimer: () => void = () => {};
  #firstAt = 0;
  #pausedUntil = Number.NEGATIVE_INFINITY;
  #sending = false;
  #closed = false;
  /** Events that no report will tell of: there was no room for them, or the mesh refused them. */
  dropped = 0;

  constructor(parts: ReporterParts) {
    this.#parts = parts;
  }

  get queued(): number {
    return this.#queue.length;
  }

  noteEvent({ kind, id, index, languageId, elapsedMs, latencyMs, chars, fromCache }: SuggestionEvent): void {
    const counts = kind === 'accepted' || kind === 'partially_accepted' || kind === 'kept';
    const since = kind === 'shown' ? latencyMs : elapsedMs;
    this.#take({
      ...{ requestId: id, choice: index, kind, reason: '', languageId, fromCache },
      elapsedMs: kind === 'kept' ? null : bounded(since, REPORT_ELAPSED_MS_MAX),
      characters: counts ? bounded(chars, REPORT_CHARS_MAX) : null,
      afterSeconds: kind === 'kept' ? bounded(elapsedMs / 1_000, REPORT_ELAPSED_MS_MAX / 1_000) : null,
    });
  }

  /** An answer without a suggestion. Of what is turned off nothing is told: off means that nothing is sent. */
  noteAnswer({ id, reason, from }: Answer, languageId: string): void {
    if (reason === null || reason === 'DISABLED') return;
    this.#take({
      ...{ requestId: id, choice: 0, kind: 'not_shown', reason: REASONS[reason], languageId },
      ...{ elapsedMs: null, characters: null, afterSeconds: null, fromCache: from === 'cache' },
    });
  }

  /** Another mesh: it is told nothing of what the one before did. */
  forget(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#queue.length = 0;
    this.#sending = false;
    this.#pausedUntil = Number.NEGATIVE_INFINITY;
    this.#stopTimer();
  }

  /** Tells what is left, for a moment at most. */
  async close(): Promise<void> {
    const { clock, source } = this.#parts;
    this.#closed = true;
    this.#stopTimer();
    if (this.#allowed && this.#queue.length > 0 && !this.#sending && clock.now() >= this.#pausedUntil) {
      const batch = this.#queue.splice(0, REPORT_LAST_EVENTS);
      let stop: () => void = () => {};
      const late = new Promise<void>((resolve) => {
        stop = clock.after(REPORT_LAST_MS, resolve);
      });
      await Promise.race([source.report(batch, { signal: this.#abort.signal }).catch(() => {}), late]);
      stop();
    }
    this.forget();
  }

  get #allowed(): boolean {
    const { enabled, reportEvents } = this.#parts.settings();
    return enabled && reportEvents;
  }

  #take(event: ReportedEvent): void {
    const language = event.languageId.length <= REPORT_LANGUAGE_CHARS_MAX ? event.languageId : '';
    if (this.#closed || !this.#allowed || !languageEnabled(this.#parts.settings(), event.languageId)) return;
    if (this.#queue.length === 0) this.#firstAt = this.#parts.clock.now();
    this.#queue.push({ ...event, languageId: language });
    this.#dropOldest();
    this.#schedule();
  }

  #dropOldest(): void {
    const excess = Math.max(0, this.#queue.length - REPORT_QUEUE_EVENTS);
    this.#queue.splice(0, excess);
    this.dropped += excess;
  }

  #schedule(): void {
    if (this.#sending || this.#queue.length === 0 || this.#closed) return;
    this.#stopTimer();
    const now = this.#parts.clock.now();
    const due = this.#queue.length >= REPORT_BATCH_EVENTS ? now : this.#firstAt + REPORT_EVERY_MS;
    // Never within the call that made the event.
    this.#stopTimer = this.#parts.clock.after(Math.max(due, this.#pausedUntil) - now, () => void this.#send());
  }

  async #send(): Promise<void> {
    const { clock, source } = this.#parts;
    if (!this.#allowed) this.#queue.length = 0; // turned off meanwhile
    if (this.#queue.length === 0) return;
    const abort = this.#abort;
    const batch = this.#queue.splice(0, REPORT_BATCH_EVENTS);
    this.#sending = true;
    try {
      await source.report(batch, { signal: abort.signal });
    } catch (thrown) {
      if (abort !== this.#abort) return;
      this.#pausedUntil = clock.now() + REPORT_PAUSE_MS;
      const refused = !(thrown instanceof InfillFailure) || thrown.kind === 'failed';
      if (refused) this.dropped += batch.length;
      else this.#queue.unshift(...batch);
      this.#dropOldest();
    }
    if (abort !== this.#abort) return; // another mesh by now
    this.#sending = false;
    this.#firstAt = clock.now();
    this.#schedule();
  }
}
