/** What the mesh can do for a model, asked once per connection. Without an answer the core goes on as if it had not asked. */
import type { Clock } from './clock.ts';
import type { ContextChunk, InfillEnding } from './infill-source.ts';
import { CAPABILITIES_FRESH_MS, CAPABILITIES_RETRY_MS } from './limits.ts';
import { type Room, roomFor } from './room.ts';

export type Capabilities = {
  /** Served name, where the mesh tells it: what "" stands for may be another one by now. */
  model?: string;
  /** False: the model cannot fill in. */
  infill: boolean;
  /** "" = none, or not told yet. */
  fimFamily: string;
  /** Of the vocabulary; "" = not told yet, and then nothing else is certain either. */
  tokenizerHash: string;
  /** Other files beside an infill. */
  chunksMax: number;
  /** Where the mesh ends texts by itself. */
  endings: readonly InfillEnding[];
  /** Tokens of prompt and answer; 0 = not told yet. */
  contextLength: number;
  /** Tokens that a prompt is best given; 0 = as many as fit. */
  infillPromptTokens: number;
  /** Of the weights: a model that was trained anew has another one. "" = not told yet, or never by this mesh. */
  modelHash: string;
  /** An infill would be served now: all that the mesh will tell is told. */
  ready: boolean;
};

export type CapabilitySource = {
  /** Throws InfillFailure. */
  capabilities(model: string, options: { signal: AbortSignal }): Promise<Capabilities>;
};

export class CapabilityBook {
  readonly #clock: Clock;
  readonly #source: CapabilitySource | null;
  #model = '';
  #facts: Capabilities | null = null;
  #asking: Promise<void> | null = null;
  #abort = new AbortController();
  #askedAt = Number.NEGATIVE_INFINITY;
  #settled = false;

  constructor(clock: Clock, source: CapabilitySource | null) {
    this.#clock = clock;
    this.#source = source;
  }

  /** Asks where the answer is not known, or is old. Null: there is nothing to wait for. The promise never fails. */
  learn(model: string, { again }: { again: boolean }): Promise<void> | null {
    if (!this.#source) return null;
    if (model !== this.#model) this.forget();
    this.#model = model;
    if (this.#asking) return this.#settled ? null : this.#asking;
    const due = this.#clock.now() - this.#askedAt >= (this.#settled ? CAPABILITIES_FRESH_MS : CAPABILITIES_RETRY_MS);
    if (!due && !(again && this.cannotInfill)) return null;
    this.#askedAt = this.#clock.now();
    this.#asking = this.#ask(this.#source, model, this.#abort);
    // What is known holds until the mesh says otherwise, a moment later: nobody waits for that.
    return this.#settled ? null : this.#asking;
  }

  async #ask(source: CapabilitySource, model: string, abort: AbortController): Promise<void> {
    const facts = await source.capabilities(model, { signal: abort.signal }).catch(() => null);
    if (abort !== this.#abort) return; // about another mesh or model
    this.#asking = null;
    this.#facts = facts ?? this.#facts;
    const isWhole = facts !== null && facts.tokenizerHash !== '' && (facts.modelHash !== '' || facts.ready);
    this.#settled = facts?.infill === true && isWhole;
  }

  /** Certain, not only not told yet. */
  get cannotInfill(): boolean {
    return this.#facts !== null && !this.#facts.infill && this.#facts.tokenizerHash !== '';
  }

  /** What a text depends on beside the name that was asked for; "" = not known. */
  get fingerprint(): string {
    if (!this.#facts) return '';
    const { model = '', tokenizerHash, fimFamily, modelHash } = this.#facts;
    return [model, tokenizerHash, fimFamily, modelHash].join('\0');
  }

  /** What fits into the model beside one another, as far as it is known. `maxTokens`: of an answer, as the settings say. */
  room(maxTokens: number): Room {
    const { model = '', contextLength = 0, infillPromptTokens = 0 } = this.#facts ?? {};
    return roomFor({ model, contextLength, infillPromptTokens }, maxTokens);
  }

  ends(ending: InfillEnding): boolean {
    return this.#facts?.endings.includes(ending) === true;
  }

  /** The newest, as many as the mesh takes. */
  fit(chunks: readonly ContextChunk[]): readonly ContextChunk[] {
    return this.#facts ? chunks.slice(Math.max(0, chunks.length - this.#facts.chunksMax)) : chunks;
  }

  /** The connection broke: what is known holds until the mesh that comes says otherwise. */
  doubt(): void {
    this.#settled = false;
    this.#askedAt = Number.NEGATIVE_INFINITY;
  }

  /** Another mesh or model. */
  forget(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#facts = null;
    this.#asking = null;
    this.doubt();
  }
}
