// Reasoning apart from the answer: <think>…</think> at the beginning of the output, or from its first token on when the
// prompt opened it. The format's own line ends (one behind the open tag, one before the close tag, two behind it) are no text.
import { blanksAt, type CallParser } from './call-parser.ts';
import type { OutputParser, ToolEvent } from './events.ts';
import { Feed, peek, type Step, Tags } from './feed.ts';
import { SEPARATOR_UNITS_MAX } from './limits.ts';

export type ReasoningTags = { open: string; close: string };

const LINE_END = 0x0a;
const LINE_ENDS_AFTER = 2;

export type ReasoningOptions = {
  /** As the parser sees them: marks where the vocabulary has them as one id. */
  tags: ReasoningTags;
  /** The prompt ends inside the reasoning. */
  startsInside: boolean;
  restore(text: string): string;
  /** Takes what comes behind the reasoning. */
  answer: CallParser;
};

/** No calls are looked for inside. Never closed: all of the output was reasoning. */
export class ReasoningParser implements OutputParser {
  readonly #options: ReasoningOptions;
  readonly #feed = new Feed();
  readonly #run: Step;
  #events: ToolEvent[] = [];
  #isInside: boolean;
  #isAnswer = false;

  constructor(options: ReasoningOptions) {
    this.#options = options;
    this.#isInside = options.startsInside;
    this.#run = this.#read();
  }

  get consumed(): number {
    return this.#isAnswer ? this.#options.answer.consumed : this.#feed.offset;
  }

  get isReasoning(): boolean {
    return this.#isInside;
  }

  push(text: string): ToolEvent[] {
    if (this.#isAnswer) return this.#options.answer.push(text);
    this.#feed.push(text);
    this.#run.next();
    return this.#take();
  }

  finish(): ToolEvent[] {
    this.#feed.end();
    this.#run.next();
    return [...this.#take(), ...this.#options.answer.finish()];
  }

  #take(): ToolEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  *#read(): Step {
    if (yield* this.#opens()) yield* this.#inside();
    this.#isInside = false;
    this.#isAnswer = true;
    const { answer } = this.#options;
    answer.startAt(this.#feed.offset);
    this.#events.push(...answer.push(this.#feed.text.slice(this.#feed.at)));
  }

  /** Takes the open tag, which some models write although the prompt did. */
  *#opens(): Step<boolean> {
    const feed = this.#feed;
    const { tags, startsInside } = this.#options;
    const opening = new Tags([tags.open]);
    for (;;) {
      const from = blanksAt(feed.text, feed.at);
      const tag = feed.at + from < feed.text.length ? opening.at(feed.text, feed.at + from) : 'open';
      if (tag === 'open' && from <= SEPARATOR_UNITS_MAX && (yield* feed.more())) continue;
      if (tag !== tags.open) return startsInside;
      feed.at += from + tag.length;
      this.#isInside = true;
      return true;
    }
  }

  *#inside(): Step {
    const feed = this.#feed;
    const { close } = this.#options.tags;
    if ((yield* peek(feed)) === LINE_END) feed.at += 1;
    const closing = new Tags([`\n${close}`, close]);
    for (;;) {
      const found = closing.find(feed.text, feed.at);
      const until = found?.at ?? closing.openAt(feed.text, feed.at);
      this.#pass(until);
      if (found) {
        feed.at += found.tag.length;
        break;
      }
      if (yield* feed.more()) continue;
      this.#pass(feed.text.length);
      return;
    }
    this.#isInside = false;
    for (let count = 0; count < LINE_ENDS_AFTER && (yield* peek(feed)) === LINE_END; count += 1) feed.at += 1;
  }

  #pass(until: number): void {
    const feed = this.#feed;
    if (until === feed.at) return;
    const text = this.#options.restore(feed.text.slice(feed.at, until));
    feed.at = until;
    this.#events.push({ kind: 'reasoning', text });
  }
}
