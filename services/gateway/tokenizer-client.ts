// The tokenizer service as the gateway uses it: text and templates to ids, and the vocabulary of each model.

import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import {
  type EncodeRequest,
  type GetVocabularyResponse,
  type RenderChatRequest,
  type RenderChatResponse,
  type RenderInfillRequest,
  type RenderInfillResponse,
  TokenizerServiceClient,
  type VocabularyPiece,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { type ClientTls, openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import type { SpanSink, TraceContext } from '#kit/trace.ts';
import {
  RECONNECT_MAX_MS,
  RECONNECT_MIN_MS,
  TOKENIZER_RETRY_MS,
  TOKENIZER_TIMEOUT_MS,
  VOCABULARY_RECHECK_MS,
  VOCABULARY_SIZE_MAX,
  VOCABULARY_TIMEOUT_MS,
} from './limits.ts';
import { type SessionCallOptions, TokenizerSession } from './tokenizer-session.ts';
import { Vocabulary, type VocabularyHeader, vocabularyHash } from './vocabulary.ts';

export type TokenizerCall = { signal: AbortSignal; trace?: TraceContext | undefined };

export type TokenizerOptions = {
  address: string;
  /** Models whose vocabularies are kept. */
  models: readonly string[];
  sharedToken?: string | undefined;
  tls?: ClientTls | undefined;
  log: Log;
  /** Takes the client spans of calls that come with a trace. */
  spans?: SpanSink | undefined;
  onChange?: () => void;
};

/** Keeps each model's vocabulary: fetched in the background, looked at again in time and after a lost connection. */
export class TokenizerClient {
  readonly #options: TokenizerOptions;
  readonly #client: TokenizerServiceClient;
  readonly #session: TokenizerSession;
  readonly #stop = new AbortController();
  readonly #vocabularies = new Map<string, Vocabulary>();
  #wake: (() => void) | null = null;
  #reachable = false;
  #loop: Promise<unknown> | null = null;

  constructor(options: TokenizerOptions) {
    this.#options = options;
    this.#client = openChannel(TokenizerServiceClient, {
      address: options.address,
      sharedToken: options.sharedToken,
      tls: options.tls,
      spans: options.spans,
      options: { 'grpc.max_reconnect_backoff_ms': RECONNECT_MAX_MS },
    });
    this.#session = new TokenizerSession(options, options.spans);
  }

  start(): void {
    this.#loop ??= this.#keep();
  }

  async close(): Promise<void> {
    this.#stop.abort(new QuernError('CANCELLED', 'the gateway is closing'));
    await this.#loop;
    this.#session.close();
    this.#client.close();
  }

  /** False after a failed contact, until the next good one. */
  get reachable(): boolean {
    return this.#reachable;
  }

  /** Null until it was fetched. */
  vocabulary(model: string): Vocabulary | null {
    return this.#vocabularies.get(model) ?? null;
  }

  async encode(request: EncodeRequest, call: TokenizerCall): Promise<number[]> {
    return (await this.#retried(call, (options) => this.#session.encode(request, options))).tokenIds;
  }

  async decode(model: string, tokenIds: readonly number[], call: TokenizerCall): Promise<string> {
    const request = { model, tokenIds: [...tokenIds], skipSpecial: false };
    return (await this.#retried(call, (options) => unary(this.#client, 'decode', request, options))).text;
  }

  renderChat(request: RenderChatRequest, call: TokenizerCall): Promise<RenderChatResponse> {
    return this.#retried(call, (options) => this.#session.renderChat(request, options));
  }

  renderInfill(request: RenderInfillRequest, call: TokenizerCall): Promise<RenderInfillResponse> {
    return this.#retried(call, (options) => this.#session.renderInfill(request, options));
  }

  /** These calls change nothing at the service, so one that finds it restarting is made again, for a short while. */
  async #retried<T>(call: TokenizerCall, make: (options: SessionCallOptions) => Promise<T>): Promise<T> {
    const until = performance.now() + TOKENIZER_RETRY_MS;
    for (let delayMs = RECONNECT_MIN_MS; ; delayMs *= 2) {
      try {
        const result = await make({ ...call, timeoutMs: TOKENIZER_TIMEOUT_MS });
        this.#setReachable(true);
        return result;
      } catch (error) {
        const { code, details } = toQuernError(error);
        if (code !== 'UNAVAILABLE' || call.signal.aborted) throw error;
        this.#setReachable(false);
        this.#wake?.(); // it may come back with another vocabulary
        if (performance.now() + delayMs > until) throw this.#unreachable(error, details.retryAfterMs);
      }
      await sleep(delayMs, undefined, { signal: call.signal });
    }
  }

  #unreachable(cause: unknown, retryAfterMs = RECONNECT_MAX_MS): QuernError {
    const message = 'the tokenizer service is not reachable; try again';
    return new QuernError('UNAVAILABLE', message, { reason: 'NO_TOKENIZER', retryAfterMs }, { cause });
  }

  #setReachable(reachable: boolean): void {
    if (reachable === this.#reachable) return;
    this.#reachable = reachable;
    this.#options.onChange?.();
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stop;
    let delayMs = RECONNECT_MIN_MS;
    while (!signal.aborted) {
      let good = true;
      for (const model of this.#options.models) good = (await this.#refresh(model, signal)) && good;
      this.#setReachable(good);
      delayMs = good ? RECONNECT_MIN_MS : Math.min(delayMs * 2, RECONNECT_MAX_MS);
      const pause = new AbortController();
      this.#wake = () => pause.abort();
      const either = AbortSignal.any([signal, pause.signal]);
      await sleep(good ? VOCABULARY_RECHECK_MS : delayMs, undefined, { signal: either }).catch(() => {});
      this.#wake = null;
    }
  }

  /** Fetches a model's vocabulary unless the one at hand has the same content. False when the service did not give it. */
  async #refresh(model: string, signal: AbortSignal): Promise<boolean> {
    const { log, onChange } = this.#options;
    try {
      const fetched = await this.#fetch(model, this.#vocabularies.get(model)?.header ?? null, signal);
      if (!fetched) return true;
      this.#vocabularies.set(model, fetched);
      log.info({ model, size: fetched.size, content_hash: fetched.header.contentHash }, 'vocabulary fetched');
      onChange?.();
      return true;
    } catch (error) {
      if (!signal.aborted && this.#reachable) log.warn({ err: error, model }, 'no vocabulary from the tokenizer');
      return false;
    }
  }

  async #fetch(model: string, known: VocabularyHeader | null, signal: AbortSignal): Promise<Vocabulary | null> {
    const options = { signal, timeoutMs: VOCABULARY_TIMEOUT_MS };
    let header: GetVocabularyResponse | null = null;
    const pieces: VocabularyPiece[] = [];
    for await (const message of serverStream(this.#client, 'getVocabulary', { model }, options)) {
      header ??= message;
      if (known && sameHeader(header, known)) return null;
      for (const piece of message.pieces) pieces.push(piece);
      if (pieces.length > VOCABULARY_SIZE_MAX) break;
    }
    if (!header || pieces.length !== header.size) {
      const message = `vocabulary of "${model}": expected ${header?.size ?? 'a header'} pieces, got ${pieces.length}`;
      throw new QuernError('DATA_LOSS', message, { reason: 'VOCABULARY_INCOMPLETE' });
    }
    const actual = vocabularyHash(pieces);
    if (actual !== header.contentHash) {
      const message = `vocabulary of "${model}": content hash ${actual}, but the tokenizer announced ${header.contentHash}`;
      throw new QuernError('DATA_LOSS', message, { reason: 'VOCABULARY_MISMATCH' });
    }
    return new Vocabulary(header, pieces);
  }
}

/** The same tokens, and the same word on how the model is asked and its output is read. */
function sameHeader(one: VocabularyHeader, other: VocabularyHeader): boolean {
  return (
    one.contentHash === other.contentHash &&
    one.fimFamily === other.fimFamily &&
    one.infillPromptTokens === other.infillPromptTokens &&
    one.toolParser === other.toolParser &&
    one.reasoningParser === other.reasoningParser &&
    isDeepStrictEqual(one.defaultSampling, other.defaultSampling)
  );
}
