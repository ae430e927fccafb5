// Token ids of one choice to content, reasoning and tool calls: UTF-8, then the model's output format, then stop strings, which see
// content only. The counterpart of TextAssembler for choices whose output is more than text.
// Data: a mark per token whose place is not decided yet, as there; `segments` lead from content back to the parser's input.
import type { PositionLogprobs } from '#gen/quern/common/v1/common.ts';
import type { TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import { type StopMatch, StopMatcher } from './stop-strings.ts';
import { type AssemblerOptions, textLogprobs } from './text-assembler.ts';
import type { OutputParser, ToolEvent } from './tool-parsers/events.ts';
import { Utf8Stream } from './utf8-stream.ts';

/** What a client gets of a choice, in order. */
export type ChoicePart = { kind: 'text'; text: string } | Exclude<ToolEvent, { kind: 'text' }>;

export type ParsedOptions = AssemblerOptions & {
  parser: OutputParser;
  /** What the parser sees of an id that is a tag. */
  marks: ReadonlyMap<number, string>;
  /** False: only the first call is kept. */
  parallelCalls: boolean;
};

/** Places are UTF-16 units of the parser's input; `end` is Infinity while the token's character is unfinished. */
type Mark = { start: number; end: number; id: number; position: PositionLogprobs | null; hidden: boolean };
/** A stretch of content and where it stands in the parser's input. */
type Segment = { content: number; input: number; length: number };

/** Invariant (tested over every cut): what is given out in all does not depend on how the ids came. */
export class ParsedAssembler {
  /** Free to be shown now; the caller takes all three together and calls clear(). */
  parts: ChoicePart[] = [];
  logprobs: TextLogprobs[] = [];
  tokenIds: number[] = [];
  /** Tokens that count and belong to the reasoning, its tags among them. */
  reasoningTokens = 0;
  /** Calls that were given out whole, and what was given as the text of a call that is none. */
  readonly calls = { made: 0, invalid: 0 };
  readonly #options: ParsedOptions;
  readonly #utf8 = new Utf8Stream();
  #matcher: StopMatcher | null;
  #stop: StopMatch | null = null;
  /** Places of a match of the present matcher are counted from here, in content. */
  #matcherBase = 0;
  #content = 0;
  #shown = 0;
  #input = 0;
  #count = 0;
  #segments: Segment[] = [];
  #marks: Mark[] = [];

  constructor(options: ParsedOptions) {
    this.#options = options;
    this.#matcher = this.#newMatcher();
  }

  /** The stop string that ended the content, once it is certain. */
  get stop(): StopMatch | null {
    return this.#stop;
  }

  get tokenCount(): number {
    return this.#count;
  }

  get hasOutput(): boolean {
    return this.parts.length > 0 || this.tokenIds.length > 0 || this.logprobs.length > 0;
  }

  clear(): void {
    this.parts = [];
    this.logprobs = [];
    this.tokenIds = [];
  }

  push(ids: readonly number[], positions: readonly PositionLogprobs[]): void {
    for (let i = 0; i < ids.length; i += 1) {
      if (this.#stop) return;
      this.#pushToken(ids[i] as number, positions[i] ?? null);
    }
  }

  /** The sequence has ended: whatever was held back comes out. */
  end(): void {
    if (this.#stop) return;
    const { parser } = this.#options;
    this.#close(this.#utf8.end());
    for (const event of parser.finish()) this.#take(event);
    this.#endMatcher();
    this.#releaseMarks(true);
  }

  #newMatcher(): StopMatcher | null {
    const { stopStrings } = this.#options;
    return stopStrings.length > 0 ? new StopMatcher(stopStrings) : null;
  }

  /** What the parser sees of a token; null for one that writes nothing. */
  #piece(id: number): string | null {
    const { vocabulary, marks, stopTokenIds, withControl = false } = this.#options;
    if (stopTokenIds.has(id)) return null;
    const mark = marks.get(id);
    if (mark !== undefined) return this.#utf8.end() + mark;
    const shown = vocabulary.shown(id, withControl);
    if (shown === '' && vocabulary.hidden(id, withControl)) return null;
    return shown !== null && !this.#utf8.open ? shown : this.#utf8.push(vocabulary.bytes(id));
  }

  #pushToken(id: number, position: PositionLogprobs | null): void {
    const { parser } = this.#options;
    this.#count += 1;
    const start = this.#input;
    const piece = this.#piece(id);
    const wasReasoning = parser.isReasoning;
    this.#close(piece ?? '');
    if (wasReasoning || parser.isReasoning) this.reasoningTokens += 1;
    const isOpen = piece !== null && this.#utf8.open;
    const end = isOpen ? Number.POSITIVE_INFINITY : this.#input;
    this.#marks.push({ start, end, id, position, hidden: piece === null });
    this.#releaseMarks(false);
  }

  /** Further input: completes the characters of earlier tokens and goes through the parser. */
  #close(piece: string): void {
    if (piece === '') return;
    const closed = this.#input + ((piece.codePointAt(0) as number) > 0xffff ? 2 : 1);
    for (const mark of this.#marks) if (mark.end === Number.POSITIVE_INFINITY) mark.end = closed;
    this.#input += piece.length;
    for (const event of this.#options.parser.push(piece)) this.#take(event);
  }

  #take(event: ToolEvent): void {
    if (this.#stop) return;
    if (event.kind === 'text') {
      this.#write(event.text, event.at);
      return;
    }
    this.#endMatcher();
    if (this.#stop) return;
    this.#matcher = this.#newMatcher();
    this.#matcherBase = this.#content;
    if (event.kind !== 'reasoning' && !this.#options.parallelCalls && event.index !== null && event.index > 0) {
      if (event.kind !== 'invalid_call') return;
    }
    if (event.kind === 'call_end') this.calls.made += 1;
    if (event.kind === 'invalid_call') this.calls.invalid += 1;
    this.#add({ ...event });
  }

  #write(text: string, at: number): void {
    const { minTokens } = this.#options;
    if (!this.#matcher || this.#count <= minTokens) {
      this.#content += text.length;
      this.#matcherBase = this.#content;
      this.#show(text);
      return;
    }
    this.#segments.push({ content: this.#content, input: at, length: text.length });
    this.#content += text.length;
    this.#show(this.#matcher.push(text));
    this.#noteStop();
  }

  #endMatcher(): void {
    if (!this.#matcher) return;
    this.#show(this.#matcher.end());
    this.#noteStop();
  }

  #noteStop(): void {
    const match = this.#matcher?.match;
    if (!match) return;
    this.#stop = { ...match, start: this.#matcherBase + match.start, end: this.#matcherBase + match.end };
  }

  #show(text: string): void {
    if (text === '') return;
    this.#shown += text.length;
    this.#add({ kind: 'text', text });
  }

  /** Pieces of one kind that follow one another go out as one. */
  #add(part: ChoicePart): void {
    const last = this.parts.at(-1);
    if (last?.kind === 'text' && part.kind === 'text') last.text += part.text;
    else if (last?.kind === 'reasoning' && part.kind === 'reasoning') last.text += part.text;
    else if (last?.kind === 'arguments' && part.kind === 'arguments' && last.index === part.index) {
      last.text += part.text;
    } else this.parts.push(part);
  }

  /** Where a place of the content that is still held, or its end, stands in the parser's input. */
  #inputOf(content: number): number {
    const segment = this.#segments.find((one) => one.content + one.length > content);
    if (segment) return segment.input + Math.max(0, content - segment.content);
    const last = this.#segments.at(-1);
    return last ? last.input + last.length : this.#options.parser.consumed;
  }

  #releaseMarks(ended: boolean): void {
    const match = this.#stop;
    if (match) {
      const cut = this.#inputOf(match.start);
      const behind = match.end < this.#content ? this.#inputOf(match.end) : this.#inputOf(match.end - 1) + 1;
      this.#count -= this.#marks.filter((mark) => mark.start >= behind).length;
      for (const mark of this.#marks) if (mark.start < cut) this.#give(mark);
      this.#marks = [];
      return;
    }
    const isHeld = this.#shown < this.#content;
    const until = isHeld ? this.#inputOf(this.#shown) : this.#options.parser.consumed;
    if (!isHeld) this.#segments = [];
    else
      while ((this.#segments[0] as Segment).input + (this.#segments[0] as Segment).length <= until)
        this.#segments.shift();
    let given = 0;
    while (given < this.#marks.length && (ended || (this.#marks[given] as Mark).end <= until)) {
      this.#give(this.#marks[given] as Mark);
      given += 1;
    }
    if (given > 0) this.#marks.splice(0, given);
  }

  #give({ id, hidden, position, start }: Mark): void {
    const { vocabulary, textOffset, tokenIds, logprobs } = this.#options;
    if (tokenIds) this.tokenIds.push(id);
    if (logprobs && !hidden && position) this.logprobs.push(textLogprobs(vocabulary, id, position, textOffset + start));
  }
}
