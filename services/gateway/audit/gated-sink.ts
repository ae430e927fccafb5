// A generation's sink with a gate: nothing of the answer passes before it is opened. A refusal passes at any time.

import type { Accepted, TextLogprobs } from '#gen/quern/gateway/v1/gateway.ts';
import type { QuernError } from '#kit/errors.ts';
import type { GenerationEnd, GenerationSink } from '../generation-events.ts';

type SinkPart = Parameters<NonNullable<GenerationSink['part']>>[1];

/** What the model wrote of a part: name(arguments) of a call. */
function writtenOf(part: SinkPart): string {
  if (part.kind === 'call_start') return `${part.name}(`;
  return part.kind === 'call_end' ? ')' : part.text;
}

export class GatedSink implements GenerationSink {
  /** UTF-8 bytes of text that were given to the sink. */
  textBytes = 0;
  readonly #inner: GenerationSink;
  /** Null once open. While it is closed deltas are merged by their sender, so this stays small. */
  #held: (() => void)[] | null = [];
  #isWritable = true;
  /** Text of each choice, of all together at most so many UTF-16 units; null: none is collected. */
  readonly #texts: string[] | null;
  #room: number;

  /** `collect`: UTF-16 units of the answer that are collected, 0 for none. */
  constructor(inner: GenerationSink, collect = 0) {
    this.#inner = inner;
    this.#texts = collect > 0 ? [] : null;
    this.#room = collect;
  }

  /** What was collected of the answer: its choices one below the other. */
  get text(): string {
    return (this.#texts ?? []).join('\n');
  }

  #collect(choice: number, text: string): void {
    if (this.#texts === null || this.#room <= 0) return;
    while (this.#texts.length <= choice) this.#texts.push('');
    this.#texts[choice] += text.slice(0, this.#room);
    this.#room -= text.length;
  }

  /** Gives what was held. False: the client is behind and says itself when it has caught up. Throws what the sink throws. */
  open(): boolean {
    const held = this.#held ?? [];
    this.#held = null;
    for (const give of held) give();
    return this.#isWritable;
  }

  accepted(info: Accepted): void {
    this.#give(() => this.#inner.accepted(info));
  }

  promptLogprobs(entries: TextLogprobs[]): void {
    this.#give(() => this.#inner.promptLogprobs(entries));
  }

  delta(choice: number, text: string, logprobs: TextLogprobs[], tokenIds: number[]): boolean {
    this.textBytes += Buffer.byteLength(text);
    this.#collect(choice, text);
    if (this.#held === null) return this.#inner.delta(choice, text, logprobs, tokenIds);
    this.#held.push(() => {
      this.#isWritable = this.#inner.delta(choice, text, logprobs, tokenIds) && this.#isWritable;
    });
    return false;
  }

  part(choice: number, part: SinkPart): boolean {
    const text = writtenOf(part);
    this.textBytes += Buffer.byteLength(text);
    this.#collect(choice, text);
    if (this.#held === null) return this.#inner.part?.(choice, part) ?? true;
    this.#held.push(() => {
      this.#isWritable = (this.#inner.part?.(choice, part) ?? true) && this.#isWritable;
    });
    return false;
  }

  choiceFinished(...finished: Parameters<GenerationSink['choiceFinished']>): void {
    this.#give(() => this.#inner.choiceFinished(...finished));
  }

  end(end: GenerationEnd): void {
    this.#give(() => this.#inner.end(end));
  }

  /** Nothing of what was held is given any more. */
  fail(error: QuernError): void {
    this.#held = [];
    this.#inner.fail(error);
  }

  #give(event: () => void): void {
    if (this.#held === null) event();
    else this.#held.push(event);
  }
}
