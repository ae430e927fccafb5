// When a request's text goes to its client: the first at once, then one write per choice and engine step; merged only
// while the client is behind, or for as long as it asked for.
import { QuernError } from '#kit/errors.ts';
import type { Choice } from './choice.ts';
import type { GenerationSink } from './generation-events.ts';
import { SLOW_CLIENT_MS } from './limits.ts';
import type { ChoicePart } from './parsed-assembler.ts';
import type { Timers } from './timers.ts';

export type DeliveryOptions = {
  choices: readonly Choice[];
  sink: GenerationSink;
  timers: Timers;
  coalesceMs: number;
  /** A write outside of an engine step failed, or the client reads nothing. */
  onFault(error: unknown): void;
};

function give(sink: GenerationSink, choice: number, part: ChoicePart): boolean {
  if (part.kind === 'text') return sink.delta(choice, part.text, [], []);
  return sink.part?.(choice, part) ?? true;
}

export class Delivery {
  readonly #options: DeliveryOptions;
  #blocked: NodeJS.Timeout | null = null;
  #coalesce: NodeJS.Timeout | null = null;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** A step is over. */
  step(): void {
    const { choices, coalesceMs, timers } = this.#options;
    if (this.#blocked || this.#coalesce) return; // merged with what comes until resume() or the timer
    if (coalesceMs === 0 || !choices.some((choice) => choice.started)) {
      this.flush();
      return;
    }
    this.#coalesce = timers.after(coalesceMs, () => {
      this.#coalesce = null;
      if (!this.#blocked) this.#guarded();
    });
  }

  /** The client can take more. */
  resume(): void {
    if (!this.#blocked) return;
    this.#options.timers.clear(this.#blocked);
    this.#blocked = null;
    this.#guarded();
  }

  /** Writes what is free to go, and the ends of choices. */
  flush(): void {
    const { choices, sink } = this.#options;
    for (let i = 0; i < choices.length; i += 1) {
      const choice = choices[i] as Choice;
      if (choice.hasOutput) {
        const parts = choice.takeParts();
        for (const part of parts) if (!give(sink, i, part)) this.#block();
        const { text, logprobs, tokenIds } = choice.take();
        const isMore = parts.length === 0 || text !== '' || logprobs.length > 0 || tokenIds.length > 0;
        if (isMore && !sink.delta(i, text, logprobs, tokenIds)) this.#block();
      }
      if (choice.finished && !choice.announced) {
        choice.announced = true;
        sink.choiceFinished(i, choice.finished, choice.stopString, choice.stopTokenId, choice.scopeEnded);
      }
    }
  }

  #block(): void {
    this.#blocked ??= this.#options.timers.after(SLOW_CLIENT_MS, () => {
      const message = `the client has read nothing for ${SLOW_CLIENT_MS} ms; read faster or ask for less`;
      this.#options.onFault(new QuernError('RESOURCE_EXHAUSTED', message, { reason: 'SLOW_READER' }));
    });
  }

  #guarded(): void {
    try {
      this.flush();
    } catch (error) {
      this.#options.onFault(error);
    }
  }
}
