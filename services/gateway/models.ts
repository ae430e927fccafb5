// The served models: each with its engines and its vocabulary. What is ready is asked here and nowhere else.
import type { DescribeResponse } from '#gen/quern/engine/v1/engine.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { shortText } from '#kit/text-cut.ts';
import type { EngineSession } from './engine-session.ts';
import { pickReplica } from './replica-picker.ts';
import type { TokenizerClient } from './tokenizer-client.ts';
import type { Vocabulary } from './vocabulary.ts';

export type ServedModel = { readonly name: string; readonly replicas: readonly EngineSession[] };

/** Of a name that nobody serves; a caller may have put anything there. */
const NAME_SHOWN_CHARS = 128;

/** The set of names is fixed by configuration; readiness changes. */
export class Models {
  readonly #models: ReadonlyMap<string, ServedModel>;
  readonly #tokenizer: TokenizerClient;
  readonly #waiters = new Set<() => void>();

  constructor(models: readonly ServedModel[], tokenizer: TokenizerClient) {
    this.#models = new Map(models.map((model) => [model.name, model]));
    this.#tokenizer = tokenizer;
  }

  all(): ServedModel[] {
    return [...this.#models.values()];
  }

  /** "" means the only served model. Throws NOT_FOUND, naming what is served. */
  resolve(name: string): ServedModel {
    const only = name === '' && this.#models.size === 1 ? this.all()[0] : undefined;
    const model = only ?? this.#models.get(name);
    if (model) return model;
    const served = [...this.#models.keys()].map((n) => `"${n}"`).join(', ');
    const message =
      name === ''
        ? `name a model; served: ${served}`
        : `no model "${shortText(name, NAME_SHOWN_CHARS)}" here; served: ${served}`;
    const code = name === '' ? 'INVALID_ARGUMENT' : 'NOT_FOUND';
    const reason = name === '' ? 'MODEL_MISSING' : 'MODEL_NOT_FOUND';
    throw new QuernError(code, message, { reason, fields: [{ field: 'model', description: message }] });
  }

  /** Throws UNAVAILABLE until the tokenizer gave it. */
  vocabulary(model: ServedModel): Vocabulary {
    const vocabulary = this.#tokenizer.vocabulary(model.name);
    if (vocabulary) return vocabulary;
    const message = `the tokenizer has not given the vocabulary of "${model.name}" yet; try again`;
    throw new QuernError('UNAVAILABLE', message, { reason: 'NO_TOKENIZER', retryAfterMs: 1_000 });
  }

  /** What an engine of the model said about it last; null before the first contact with any. */
  description(model: ServedModel): DescribeResponse | null {
    for (const replica of model.replicas) if (replica.ready) return replica.description;
    return model.replicas.find((replica) => replica.description)?.description ?? null;
  }

  /** Would a completion be served now? */
  ready(model: ServedModel): boolean {
    const tokenizer = this.#tokenizer.reachable && this.#tokenizer.vocabulary(model.name) !== null;
    return tokenizer && model.replicas.some((replica) => replica.ready);
  }

  /** Wakes who waits in replica(). To be called when any readiness may have changed. */
  changed(): void {
    for (const wake of [...this.#waiters]) wake();
  }

  /** The engine for a prompt; waits up to `waitMs` for one to be ready. Throws UNAVAILABLE, or the signal's reason. */
  async replica(
    model: ServedModel,
    key: number,
    options: { waitMs: number; signal: AbortSignal },
  ): Promise<EngineSession> {
    const { waitMs, signal } = options;
    const until = performance.now() + waitMs;
    while (true) {
      if (signal.aborted) throw toQuernError(signal.reason);
      const chosen = pickReplica(model.replicas, key);
      if (chosen) return chosen;
      const leftMs = until - performance.now();
      if (leftMs <= 0) break;
      await this.#change(leftMs, signal);
    }
    const message = `no engine of "${model.name}" is ready; try again`;
    throw new QuernError('UNAVAILABLE', message, { reason: 'NO_ENGINE', retryAfterMs: 1_000 });
  }

  #change(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#waiters.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }
}
