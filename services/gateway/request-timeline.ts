// Where the time of one request goes, as the gateway sees it: a stage begins when the one before it ends. Written by the
// generation, read by RequestService.Explain while the request runs and after it.
import type { Timings, Usage } from '#gen/quern/common/v1/common.ts';
import type { Finished } from '#gen/quern/engine/v1/engine.ts';
import type { ExplainStage } from '#gen/quern/gateway/v1/gateway.ts';
import type { QuernError } from '#kit/errors.ts';
import type { Principal } from '#kit/principal.ts';
import type { TypedRequest } from './typed-request.ts';

/** engine: from submit to the last token; with the engine's own timings it becomes queue, prefill and decode. */
export type StageName = 'admit' | 'tokenize' | 'route' | 'engine' | 'finish';

/** How it ended. `error` is null when the client got an answer. */
export type RequestOutcome = { outcome: string; error: QuernError | null; usage: Usage; timings: Timings | undefined };

/** What is kept of it: no error object, which holds its stack and its cause. */
export type TimelineEnd = Omit<RequestOutcome, 'error'> & {
  error: { code: string; reason: string; message: string } | null;
};

export type TimelineFacts = {
  requestId: string;
  principal: Principal;
  method: TypedRequest['method'] | 'agent';
  traceId: string;
};

/** A turn or call of an agent run; they overlap. `end` null: it goes on. */
type Part = { name: string; at: number; end: number | null };

/** Turns and calls of one agent run that are kept. */
const PARTS_MAX = 128;

/** Of a failure's message; the caller had all of it. */
const MESSAGE_CHARS = 500;

const NO_USAGE: Usage = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 };

function micros(milliseconds: number): bigint {
  return BigInt(Math.max(0, Math.round(milliseconds * 1000)));
}

export class RequestTimeline {
  readonly facts: TimelineFacts;
  readonly arrivedUnixMs = Date.now();
  /** Served name; "" until it is known. */
  model = '';
  resumes = 0;
  /** Engine steps that brought tokens, and the longest wait between two of them in milliseconds. */
  steps = 0;
  longestGapMs = 0;
  end: TimelineEnd | null = null;
  readonly #startedMs: number;
  /** Offsets from the start in milliseconds; a stage ends where the next one begins. */
  readonly #stages: { name: StageName; at: number }[] = [{ name: 'admit', at: 0 }];
  readonly #parts: Part[] = [];
  #firstTokenAt: number | null = null;
  #lastTokenAt = 0;
  #endedAt: number | null = null;

  /** `startedMs`: arrival, in performance.now() milliseconds. */
  constructor(facts: TimelineFacts, startedMs: number) {
    this.facts = facts;
    this.#startedMs = startedMs;
  }

  get durationUs(): bigint {
    return micros(this.#endedAt ?? this.#now());
  }

  get usage(): Usage {
    return this.end?.usage ?? NO_USAGE;
  }

  enter(name: StageName): void {
    this.#stages.push({ name, at: this.#now() });
  }

  /** A turn or call of an agent run begins. Answers its end. */
  part(name: string): () => void {
    const part: Part = { name, at: this.#now(), end: null };
    if (this.#parts.length < PARTS_MAX) this.#parts.push(part);
    return () => {
      part.end ??= this.#now();
    };
  }

  /** An engine step brought tokens. */
  step(): void {
    const now = this.#now();
    this.steps += 1;
    if (this.#firstTokenAt === null) this.#firstTokenAt = now;
    else this.longestGapMs = Math.max(this.longestGapMs, now - this.#lastTokenAt);
    this.#lastTokenAt = now;
  }

  finish({ error, ...end }: RequestOutcome): void {
    this.end = {
      ...end,
      error: error && {
        code: error.code,
        reason: error.details.reason,
        message: error.message.slice(0, MESSAGE_CHARS),
      },
    };
    this.#endedAt = this.#now();
  }

  /** The engine's end of a request that was given up comes behind its own, and says where its time went. */
  lateEnd({ timings, usage }: Pick<Finished, 'timings' | 'usage'>): void {
    const end = this.end;
    if (!end || end.timings) return;
    const cachedTokens = Math.min(usage?.cachedTokens ?? 0, end.usage.promptTokens);
    this.end = { ...end, timings, usage: { ...end.usage, cachedTokens } };
  }

  /** In order of their start. Nothing of a stage that took no time and is not the last. Of an agent run its turns and calls. */
  stages(): ExplainStage[] {
    const until = this.#endedAt ?? this.#now();
    if (this.facts.method === 'agent') return this.#parts.map(({ name, at, end }) => stage(name, at, end ?? until));
    const lastEngine = this.#stages.findLastIndex(({ name }) => name === 'engine');
    return this.#stages.flatMap(({ name, at }, i) => {
      const next = this.#stages[i + 1]?.at ?? until;
      if (i === lastEngine) return this.#engineStages(at, next);
      return [{ name, startUs: micros(at), durationUs: micros(next - at) }];
    });
  }

  /** The engine counts from its own arrival: the way there and back is what is left over. */
  #engineStages(start: number, next: number): ExplainStage[] {
    const timings = this.end?.timings;
    if (!timings) {
      const first = this.#firstTokenAt;
      if (first === null || first < start) return [stage('engine', start, next)];
      return [stage('engine', start, first), stage('decode', first, next)];
    }
    const spans = [
      ['queue', timings.queueNs],
      ['prefill', timings.prefillNs],
      ['decode', timings.decodeNs],
    ] as const;
    let at = start;
    return spans.map(([name, ns]) => {
      const from = at;
      at = Math.min(next, at + Number(ns) / 1e6);
      return stage(name, from, at);
    });
  }

  #now(): number {
    return performance.now() - this.#startedMs;
  }
}

function stage(name: string, from: number, to: number): ExplainStage {
  return { name, startUs: micros(from), durationUs: micros(to - from) };
}
