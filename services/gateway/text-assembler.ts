// Token ids of one choice to the text, log probabilities and ids that a client sees.
// Data: a mark per token whose text is not out yet; a mark leaves with the text it wrote, or is cut with it.
import { FinishReason, type PositionLogprobs, type TokenLogprob } from '#gen/quern/common/v1/common.ts';
import type { TextLogprobs, TopLogprob } from '#gen/quern/gateway/v1/gateway.ts';
import type { ScopeStop } from './scope/scope-stop.ts';
import { ScopedMatcher } from './scope/scoped-matcher.ts';
import { type StopMatch, StopMatcher } from './stop-strings.ts';
import { Utf8Stream } from './utf8-stream.ts';
import type { Vocabulary } from './vocabulary.ts';

export type AssemblerOptions = {
  vocabulary: Vocabulary;
  stopStrings: readonly string[];
  /** The end of the code around the cursor, made for this text; absent = none. */
  scope?: ScopeStop;
  /** Ids that end the sequence and are not shown: EOS (unless ignored) and the request's own. */
  stopTokenIds: ReadonlySet<number>;
  /** Control tokens are part of the text; absent = they are not. */
  withControl?: boolean;
  /** Stop strings are looked for only after so many tokens, as the engine does with stop ids. */
  minTokens: number;
  /** Give log probabilities with the text. */
  logprobs: boolean;
  /** Give ids with the text. */
  tokenIds: boolean;
  /** UTF-16 units of echoed prompt before the completion. */
  textOffset: number;
};

/** One token: where its text lies in all text of the choice; `end` is Infinity while its character is unfinished. */
type Mark = { start: number; end: number; id: number; position: PositionLogprobs | null; hidden: boolean };

function matcherOf({ stopStrings, scope }: AssemblerOptions): StopMatcher | ScopedMatcher | null {
  if (scope) return new ScopedMatcher(stopStrings, scope);
  return stopStrings.length > 0 ? new StopMatcher(stopStrings) : null;
}

/**
 * Invariant (tested over every split): the concatenation of all text given out equals assembling all ids at once.
 * Tokens behind a stop string count nowhere.
 */
export class TextAssembler {
  /** Free to be shown now; the caller takes all three together and calls clear(). */
  text = '';
  logprobs: TextLogprobs[] = [];
  tokenIds: number[] = [];

  readonly #options: AssemblerOptions;
  readonly #vocabulary: Vocabulary;
  readonly #utf8 = new Utf8Stream();
  readonly #matcher: StopMatcher | ScopedMatcher | null;
  readonly #tracking: boolean;
  #matcherBase = 0;
  #produced = 0;
  #released = 0;
  #count = 0;
  #marks: Mark[] = [];

  constructor(options: AssemblerOptions) {
    this.#options = options;
    this.#vocabulary = options.vocabulary;
    this.#matcher = matcherOf(options);
    this.#tracking = options.logprobs || options.tokenIds;
  }

  /** The stop string that ended the text, once it is certain. */
  get stop(): StopMatch | null {
    return this.#matcher?.match ?? null;
  }

  /** Generated tokens that count. */
  get tokenCount(): number {
    return this.#count;
  }

  get hasOutput(): boolean {
    return this.text.length > 0 || this.tokenIds.length > 0 || this.logprobs.length > 0;
  }

  clear(): void {
    this.text = '';
    if (!this.#tracking) return;
    this.logprobs = [];
    this.tokenIds = [];
  }

  /** Takes the next tokens; `positions` is empty or holds one entry per id. */
  push(ids: readonly number[], positions: readonly PositionLogprobs[]): void {
    for (let i = 0; i < ids.length; i += 1) {
      if (this.stop) return;
      this.#pushToken(ids[i] as number, positions[i] ?? null);
    }
  }

  /** The sequence has ended: whatever was held back comes out. */
  end(): void {
    if (this.stop) return;
    this.#write(this.#utf8.end());
    if (this.#matcher) this.#show(this.#matcher.end());
    this.#releaseMarks(true);
  }

  #pushToken(id: number, position: PositionLogprobs | null): void {
    this.#count += 1;
    const ends = this.#options.stopTokenIds.has(id);
    const { withControl = false } = this.#options;
    const shown = ends ? '' : this.#vocabulary.shown(id, withControl);
    if (shown !== null && !this.#utf8.open && !this.#tracking && !this.#matcher) {
      this.text += shown; // most tokens of most requests
      this.#produced += shown.length;
      return;
    }
    const hidden = ends || (shown === '' && this.#vocabulary.hidden(id, withControl));
    const start = this.#produced;
    const piece = hidden
      ? ''
      : shown !== null && !this.#utf8.open
        ? shown
        : this.#utf8.push(this.#vocabulary.bytes(id));
    this.#write(piece);
    const allOut = this.#released === this.#produced && !this.#utf8.open && !this.stop;
    if (allOut && !this.#tracking) {
      this.#marks.length = 0;
      return;
    }
    const end = hidden || !this.#utf8.open ? this.#produced : Number.POSITIVE_INFINITY;
    this.#marks.push({ start, end, id, position, hidden });
    this.#releaseMarks(false);
  }

  /** New text of the choice: closes unfinished characters' marks and passes what no stop string holds back. */
  #write(piece: string): void {
    if (piece.length === 0) return;
    const first = piece.codePointAt(0) as number;
    const closed = this.#produced + (first > 0xffff ? 2 : 1);
    for (const mark of this.#marks) if (mark.end === Number.POSITIVE_INFINITY) mark.end = closed;
    this.#produced += piece.length;
    if (!this.#matcher) {
      this.#show(piece);
    } else if (this.#count <= this.#options.minTokens) {
      this.#matcherBase = this.#produced;
      this.#show(piece);
    } else {
      this.#show(this.#matcher.push(piece));
    }
  }

  #show(text: string): void {
    this.text += text;
    this.#released += text.length;
  }

  #releaseMarks(ended: boolean): void {
    const match = this.stop;
    if (match) {
      const cut = this.#matcherBase + match.start;
      const matchEnd = this.#matcherBase + match.end;
      this.#count -= this.#marks.filter((mark) => mark.start >= matchEnd).length;
      for (const mark of this.#marks) if (mark.start < cut) this.#give(mark);
      this.#marks = [];
      return;
    }
    let given = 0;
    while (given < this.#marks.length) {
      const mark = this.#marks[given] as Mark;
      if (!ended && mark.end > this.#released) break;
      this.#give(mark);
      given += 1;
    }
    if (given > 0) this.#marks.splice(0, given);
  }

  #give(mark: Mark): void {
    if (this.#options.tokenIds) this.tokenIds.push(mark.id);
    if (!this.#options.logprobs || mark.hidden || !mark.position) return;
    this.logprobs.push(textLogprobs(this.#vocabulary, mark.id, mark.position, this.#options.textOffset + mark.start));
  }
}

function topLogprob(vocabulary: Vocabulary, { tokenId, logprob, rank }: TokenLogprob): TopLogprob {
  const bytes = Buffer.from(vocabulary.bytes(tokenId));
  return { tokenId, token: vocabulary.literal(tokenId), bytes, logprob, rank };
}

/** One position's log probabilities with their texts; `textOffset` in UTF-16 units. */
export function textLogprobs(
  vocabulary: Vocabulary,
  id: number,
  position: PositionLogprobs | null,
  textOffset: number,
): TextLogprobs {
  return {
    tokenId: id,
    token: vocabulary.literal(id),
    bytes: Buffer.from(vocabulary.bytes(id)),
    logprob: position?.chosen?.logprob,
    rank: position?.chosen?.rank,
    top: (position?.top ?? []).map((entry) => topLogprob(vocabulary, entry)),
    textOffset,
  };
}

/** Log probabilities of the prompt's tokens; the first token has none. `positions` holds one entry less than `ids`. */
export function promptLogprobs(
  vocabulary: Vocabulary,
  ids: readonly number[],
  positions: readonly PositionLogprobs[],
): TextLogprobs[] {
  const utf8 = new Utf8Stream();
  let offset = 0;
  return ids.map((id, i) => {
    const entry = textLogprobs(vocabulary, id, i === 0 ? null : (positions[i - 1] ?? null), offset);
    offset += utf8.push(vocabulary.bytes(id)).length;
    return entry;
  });
}

/** The text of ids with control tokens written out, as an echoed prompt shows them. */
export function literalText(vocabulary: Vocabulary, ids: readonly number[]): string {
  const utf8 = new Utf8Stream();
  let text = '';
  for (const id of ids) text += utf8.push(vocabulary.bytes(id));
  return text + utf8.end();
}

/** The engine's reason for a choice, seen from the text: a stop string wins over what the engine says. */
export function finishReason(assembler: TextAssembler, engineReason: FinishReason): FinishReason {
  return assembler.stop ? FinishReason.FINISH_REASON_STOP : engineReason;
}
