/** One query on its way: what has come so far, and who listens. It outlives a request when it was promoted. */
import type { Clock } from './clock.ts';
import { InfillFailure, type InfillQuery, type InfillSource } from './infill-source.ts';
import { CANDIDATE_CHARS_MAX } from './limits.ts';
import type { CachedText } from './suggestion-cache.ts';

export type FlightOptions = {
  clock: Clock;
  source: InfillSource;
  query: InfillQuery;
  uri: string;
  hardDeadlineMs: number;
  /** How much of a candidate is wanted: less than all of it means that the candidate is done. */
  wanted: (text: string) => number;
  /** The mesh ends texts with their scope: what it lets through needs no second judgement. */
  scoped: boolean;
  onEnd: (flight: Flight) => void;
};

type Candidate = { text: string; finished: boolean; cut: boolean; scoped: boolean };

function finish(candidate: Candidate, { cut, scopeEnded }: { cut: boolean; scopeEnded: boolean }): void {
  Object.assign(candidate, { finished: true, cut, scoped: candidate.scoped || scopeEnded });
}

export class Flight {
  readonly query: InfillQuery;
  readonly uri: string;
  readonly startedAt: number;
  readonly candidates: Candidate[];
  traceId: string;
  /** The mesh has taken it on. */
  accepted = false;
  /** Survives the typing of its user, and goes into the cache. */
  promoted = false;
  running = true;
  /** When the first text came. */
  firstTextAt: number | null = null;
  /** Why it ended without all of its text. */
  failure: InfillFailure | null = null;
  readonly #abort = new AbortController();
  readonly #listeners = new Set<() => void>();
  readonly #wanted: (text: string) => number;

  constructor(options: FlightOptions) {
    const { clock, source, query, uri, hardDeadlineMs, wanted, scoped, onEnd } = options;
    this.query = query;
    this.traceId = query.traceId;
    this.uri = uri;
    this.startedAt = clock.now();
    this.#wanted = wanted;
    this.candidates = Array.from({ length: query.candidates }, () => ({
      text: '',
      finished: false,
      cut: false,
      scoped,
    }));
    const message = `the mesh had not finished after ${hardDeadlineMs} ms; raise hardDeadlineMs or use a faster model`;
    const cancelTimer = clock.after(hardDeadlineMs, () => this.#stop(new InfillFailure('timeout', message)));
    this.#run(source, clock).finally(() => {
      cancelTimer();
      this.running = false;
      onEnd(this);
      this.#tell();
    });
  }

  /** Calls `hear` after every change until the answer is called. */
  onChange(hear: () => void): () => void {
    this.#listeners.add(hear);
    return () => this.#listeners.delete(hear);
  }

  cancel(): void {
    this.#stop(new InfillFailure('cancelled', 'nobody waits for it any more'));
  }

  /** What was typed since, when this flight is about the same place and nothing that came contradicts it; else null. */
  typedSince(place: { uri: string; prefix: string; suffix: string }): string | null {
    const { query } = this;
    if (this.uri !== place.uri || query.suffix !== place.suffix) return null;
    if (!place.prefix.startsWith(query.prefix)) return null;
    const typed = place.prefix.slice(query.prefix.length);
    const agrees = ({ text, finished }: Candidate): boolean =>
      text.startsWith(typed) ? text.length > typed.length || !finished : !finished && typed.startsWith(text);
    return this.candidates.some(agrees) ? typed : null;
  }

  /** What came behind `typed`, of every candidate that begins with it. */
  textsBehind(typed: string): CachedText[] {
    return this.candidates
      .filter(({ text }) => text.startsWith(typed) && text.length > typed.length)
      .map(({ text, finished, cut, scoped }) => ({ text: text.slice(typed.length), cut: cut || !finished, scoped }));
  }

  #stop(failure: InfillFailure): void {
    if (!this.running || this.#abort.signal.aborted) return;
    this.failure = failure;
    this.#abort.abort(failure);
    // Whoever waits hears at once; the stream may take a moment to end.
    this.#tell();
  }

  async #run(source: InfillSource, clock: Clock): Promise<void> {
    const { signal } = this.#abort;
    try {
      for await (const event of source.infill(this.query, { signal })) {
        if (signal.aborted) return;
        if (event.kind === 'accepted') Object.assign(this, { accepted: true, traceId: event.traceId });
        else if (event.kind === 'delta') {
          this.firstTextAt ??= clock.now();
          this.#add(event.index, event.text);
        } else if (event.kind === 'finished') {
          const candidate = this.candidates[event.index];
          if (candidate && !candidate.finished) finish(candidate, event);
        } else if (event.superseded) this.failure ??= new InfillFailure('cancelled', 'a newer request took its place');
        this.#tell();
        // Enough of every candidate: leaving the loop frees the place at the engine.
        if (this.candidates.every(({ finished }) => finished) && event.kind === 'delta') return;
      }
    } catch (thrown) {
      if (this.failure) return;
      const other = new InfillFailure('failed', thrown instanceof Error ? thrown.message : String(thrown));
      this.failure = thrown instanceof InfillFailure ? thrown : other;
    }
  }

  #add(index: number, text: string): void {
    const candidate = this.candidates[index];
    if (!candidate || candidate.finished) return;
    candidate.text += text;
    const wanted = Math.min(this.#wanted(candidate.text), CANDIDATE_CHARS_MAX);
    if (wanted >= candidate.text.length) return;
    candidate.cut = wanted === CANDIDATE_CHARS_MAX;
    candidate.text = candidate.text.slice(0, wanted);
    candidate.finished = true;
  }

  #tell(): void {
    for (const hear of [...this.#listeners]) hear();
  }
}
