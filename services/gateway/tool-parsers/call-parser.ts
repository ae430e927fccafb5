// What all formats share: text up to a tag, calls that may fail, blanks between calls, and the events that come of it.
import { readSchema, type Schema } from './argument-coercion.ts';
import { CallFailure, NotACall, type OutputParser, type ToolEvent } from './events.ts';
import { Feed, type Step, skipBlanks, Tags } from './feed.ts';
import { JsonArguments } from './json-arguments.ts';
import { CALL_NAME_UNITS_MAX, CALL_UNITS_MAX, SEPARATOR_UNITS_MAX } from './limits.ts';
import type { TagMarks } from './tag-marks.ts';

export type ParsedTool = { name: string; parametersSchemaJson: string };

export type ParserOptions = {
  /** What the caller offered; a call of another tool is a call all the same. */
  tools: readonly ParsedTool[];
  tags: TagMarks;
  /** A new call's id. */
  newId(): string;
};

/** A format: reads the whole output. */
export type Format = (calls: Calls) => Step;

type OpenCall = { index: number; arguments: string };

/** Where a failed call's text ends: with `close`, before `open`. */
export type CallEdges = { close?: string; open?: string };

export class Calls {
  readonly feed = new Feed();
  readonly json: JsonArguments;
  readonly #options: ParserOptions;
  readonly #schemas: ReadonlyMap<string, Schema>;
  #events: ToolEvent[] = [];
  #started = 0;
  #open: OpenCall | null = null;
  /** Blanks that stand at the beginning or behind a call: between two calls they belong to the format, else they are text. */
  #blanks: string | null = '';
  #blanksAt = 0;
  #isBehindCall = false;

  constructor(options: ParserOptions) {
    this.#options = options;
    this.json = new JsonArguments(options.tags.restore);
    this.#schemas = new Map(options.tools.map((tool) => [tool.name, readSchema(tool.parametersSchemaJson)]));
  }

  tag(literal: string): string {
    return this.#options.tags.of(literal);
  }

  restore(text: string): string {
    return this.#options.tags.restore(text);
  }

  isTool(name: string): boolean {
    return this.#schemas.has(name);
  }

  takeEvents(): ToolEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  // ---- text

  /** Input that is text, `at` its place in the input. */
  #text(text: string, at: number): void {
    if (text === '') return;
    let shown = this.restore(text);
    let start = at;
    if (this.#blanks !== null) {
      if (this.#blanks === '') this.#blanksAt = at;
      shown = this.#blanks + shown;
      start = this.#blanksAt;
      this.#blanks = shown;
      if (shown.length <= SEPARATOR_UNITS_MAX && shown.trimStart() === '') return;
      this.#blanks = null;
    }
    const last = this.#events.at(-1);
    if (last?.kind === 'text') last.text += shown;
    else this.#events.push({ kind: 'text', text: shown, at: start });
  }

  /** Takes text up to the next of `tags` and the tag itself; null: the output has ended, all of it was text. */
  *textUntil(tags: Tags): Step<string | null> {
    const { feed } = this;
    for (;;) {
      const found = tags.find(feed.text, feed.at);
      const until = found?.at ?? tags.openAt(feed.text, feed.at);
      this.#pass(until - feed.at);
      if (found) {
        feed.at += found.tag.length;
        return found.tag;
      }
      if (yield* feed.more()) continue;
      this.#pass(feed.text.length - feed.at);
      return null;
    }
  }

  /** The next units are text. */
  #pass(count: number): void {
    const { feed } = this;
    const at = feed.offset;
    const text = feed.text.slice(feed.at, feed.at + count);
    feed.at += count;
    this.#text(text, at);
  }

  /** All that comes is text. */
  *restIsText(): Step {
    yield* this.textUntil(NO_TAGS);
  }

  /** Blanks are text; answers the next unit, -1 at the end. */
  *blanksAsText(): Step<number> {
    const { feed } = this;
    for (;;) {
      this.#pass(blanksAt(feed.text, feed.at));
      if (feed.at < feed.text.length) return feed.text.charCodeAt(feed.at);
      if (!(yield* feed.more())) return -1;
    }
  }

  // ---- calls

  /**
   * Reads one call by `body`, whose first `before` units were read. What fails is an invalid call up to its edges; what
   * proves to be no call is text. Answers true when it was a call.
   */
  *call(body: () => Step, before: number, edges: CallEdges): Step<boolean> {
    const { feed } = this;
    const at = feed.offset - before;
    feed.keep(before);
    try {
      yield* body();
      const raw = feed.release();
      if (raw.length <= CALL_UNITS_MAX) {
        this.#end();
        return true;
      }
      this.#invalid(raw, 'it is too long');
    } catch (error) {
      if (error instanceof NotACall) this.#text(feed.release(), at);
      else if (error instanceof CallFailure) yield* this.#recover(error.message, edges);
      else throw error;
    }
    return false;
  }

  *#recover(reason: string, { close, open }: CallEdges): Step {
    const { feed } = this;
    const tags = new Tags([close, open].filter((tag) => tag !== undefined));
    try {
      for (let found = tags.find(feed.text, feed.at); ; found = tags.find(feed.text, feed.at)) {
        if (found) {
          feed.at = found.at + (found.tag === close ? found.tag.length : 0);
          break;
        }
        feed.at = tags.openAt(feed.text, feed.at);
        if (yield* feed.more()) continue;
        feed.at = feed.text.length;
        break;
      }
    } catch (error) {
      if (!(error instanceof CallFailure)) throw error; // too long: its rest is text
    }
    this.#invalid(feed.release(), reason);
  }

  #invalid(raw: string, reason: string): void {
    // Blanks that went with the call as its separator come back with it.
    const text = (this.#blanks ?? '') + this.restore(raw);
    this.#events.push({ kind: 'invalid_call', index: this.#open?.index ?? null, text, reason });
    this.#open = null;
    this.#blanks = null;
  }

  /** The client has heard of the call that is being read. */
  get isOpen(): boolean {
    return this.#open !== null;
  }

  /** The name is known: the client hears of the call. Throws CallFailure for a name that is none. */
  start(name: string): Schema {
    if (name === '' || name.length > CALL_NAME_UNITS_MAX || !/^[^\s<>"'{}()[\]]+$/.test(name)) {
      throw new CallFailure('its name is none');
    }
    const index = this.#started;
    this.#started += 1;
    this.#open = { index, arguments: '' };
    this.#events.push({ kind: 'call_start', index, id: this.#options.newId(), name });
    return this.#schemas.get(name) ?? null;
  }

  /** A piece of the open call's arguments. */
  readonly arguments = (text: string): void => {
    const open = this.#open;
    if (open === null || text === '') return;
    open.arguments += text;
    const last = this.#events.at(-1);
    if (last?.kind === 'arguments') last.text += text;
    else this.#events.push({ kind: 'arguments', index: open.index, text });
  };

  #end(): void {
    const open = this.#open;
    if (open === null) throw new Error('a call ends that was never started');
    this.#events.push({ kind: 'call_end', index: open.index, arguments: open.arguments });
    this.#open = null;
    this.#blanks = '';
    this.#isBehindCall = true;
  }

  /** Behind a call: takes blanks and `literal`, or at the end of the output a beginning of it. Else it takes nothing. */
  *swallow(literal: string): Step<boolean> {
    const { feed } = this;
    for (;;) {
      const blanks = blanksAt(feed.text, feed.at);
      const rest = feed.text.slice(feed.at + blanks, feed.at + blanks + literal.length);
      if (blanks > SEPARATOR_UNITS_MAX || !literal.startsWith(rest)) return false;
      const isWhole = rest === literal;
      if (!isWhole && (yield* feed.more())) continue;
      if (rest !== '') feed.at += blanks + rest.length;
      return rest !== '';
    }
  }

  /** Behind a call: takes blanks, perhaps one `separator`, and blanks, when `next` follows. Else it takes nothing. */
  *separatorBefore(separator: string, next: string): Step<boolean> {
    const { feed } = this;
    for (;;) {
      let at = feed.at + blanksAt(feed.text, feed.at);
      if (feed.text[at] === separator) at += 1 + blanksAt(feed.text, at + 1);
      if (at < feed.text.length || at - feed.at > SEPARATOR_UNITS_MAX) {
        const follows = feed.text[at] === next;
        if (follows) feed.at = at;
        return follows;
      }
      if (!(yield* feed.more())) return false;
    }
  }

  finish(): void {
    if (this.#blanks === null || this.#blanks === '' || this.#isBehindCall) return;
    this.#events.push({ kind: 'text', text: this.#blanks, at: this.#blanksAt });
    this.#blanks = null;
  }
}

const NO_TAGS = new Tags([]);

const BLANKS = /[ \t\r\n]*/y;

/** How many blanks stand at `at`. */
export function blanksAt(text: string, at: number): number {
  BLANKS.lastIndex = at;
  return BLANKS.exec(text)?.[0].length ?? 0;
}

/** A parser of one format. */
export class CallParser implements OutputParser {
  readonly isReasoning = false;
  readonly #calls: Calls;
  readonly #run: Step;

  constructor(format: Format, options: ParserOptions) {
    this.#calls = new Calls(options);
    this.#run = format(this.#calls);
  }

  get consumed(): number {
    return this.#calls.feed.offset;
  }

  startAt(offset: number): void {
    this.#calls.feed.startAt(offset);
  }

  push(text: string): ToolEvent[] {
    this.#calls.feed.push(text);
    this.#run.next();
    return this.#calls.takeEvents();
  }

  finish(): ToolEvent[] {
    this.#calls.feed.end();
    this.#run.next();
    this.#calls.finish();
    return this.#calls.takeEvents();
  }
}

/** For formats whose tag may be followed by something that is no call. */
export function* mustBe(calls: Calls, unit: string): Step {
  if ((yield* skipBlanks(calls.feed)) !== unit.charCodeAt(0)) throw new NotACall();
}
