// The input of a parser. Parsers are written as generators that yield when they need more of it; a source gives it to them.
// Data: `text` from `at` on is unread. What is read is kept only while a call is open, for the case that it fails.

import { CallFailure } from './events.ts';
import { CALL_UNITS_MAX } from './limits.ts';

/** A part of a parser: runs until it is done, stops where it needs more input. */
export type Step<T = void> = Generator<void, T, void>;

/** Where text comes from: the model's output, or the inside of a JSON string. */
export type Source = {
  text: string;
  at: number;
  /** Waits until more is unread; false: nothing comes any more. */
  more(): Step<boolean>;
};

/** A text that is there already. */
export class TextSource implements Source {
  text: string;
  at = 0;

  constructor(text: string) {
    this.text = text;
  }

  // biome-ignore lint/correctness/useYield: it never has to wait
  *more(): Step<boolean> {
    return false;
  }
}

export class Feed implements Source {
  text = '';
  at = 0;
  #base = 0;
  #ended = false;
  /** Read text of the open call before `text`; null: no call is open. */
  #kept: string | null = null;
  #keptFrom = 0;

  push(more: string): void {
    if (this.at > 0) {
      if (this.#kept !== null) this.#kept += this.text.slice(this.#keptFrom, this.at);
      this.#keptFrom = 0;
      this.#base += this.at;
      this.text = this.text.slice(this.at);
      this.at = 0;
    }
    this.text = this.text === '' ? more : this.text + more;
  }

  end(): void {
    this.#ended = true;
  }

  /** Units before `at`, of the whole input. */
  get offset(): number {
    return this.#base + this.at;
  }

  /** Nothing was read and nothing comes before this offset. */
  startAt(offset: number): void {
    this.#base = offset;
  }

  *more(): Step<boolean> {
    const unread = this.text.length - this.at;
    while (this.text.length - this.at <= unread) {
      if (this.#ended) return false;
      if (this.#kept !== null && this.#kept.length > CALL_UNITS_MAX) throw new CallFailure('it is too long');
      yield;
    }
    return true;
  }

  /** From here on, and from `before` units before it, what is read is kept. */
  keep(before = 0): void {
    this.#kept = '';
    this.#keptFrom = this.at - before;
  }

  /** What was read since keep(), which is over. */
  release(): string {
    const kept = (this.#kept ?? '') + this.text.slice(this.#keptFrom, this.at);
    this.#kept = null;
    return kept;
  }
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** Texts that are looked for together. */
export class Tags {
  readonly #all: readonly string[];
  readonly #pattern: RegExp;
  readonly #longest: number;

  constructor(tags: readonly string[]) {
    const longestFirst = tags.toSorted((a, b) => b.length - a.length);
    this.#all = longestFirst;
    this.#pattern = new RegExp(longestFirst.map(escapePattern).join('|') || '(?!)', 'g');
    this.#longest = longestFirst[0]?.length ?? 0;
  }

  /** The first one at or after `from`. */
  find(text: string, from: number): { tag: string; at: number } | null {
    this.#pattern.lastIndex = from;
    const found = this.#pattern.exec(text);
    return found ? { tag: found[0], at: found.index } : null;
  }

  /** Where a beginning of one lies at the end of `text`, which may become one; the end when there is none. */
  openAt(text: string, from: number): number {
    for (let at = Math.max(from, text.length - this.#longest + 1); at < text.length; at += 1) {
      const end = text.slice(at);
      if (this.#all.some((tag) => tag.length > end.length && tag.startsWith(end))) return at;
    }
    return text.length;
  }

  /** One stands at `at`; null: none; 'open': more input decides. */
  at(text: string, at: number): string | null | 'open' {
    for (const tag of this.#all) if (text.startsWith(tag, at)) return tag;
    return this.openAt(text, at) === at ? 'open' : null;
  }
}

/** The next unit; -1 at the end. It is not taken. */
export function* peek(source: Source): Step<number> {
  if (source.at >= source.text.length && !(yield* source.more())) return -1;
  return source.text.charCodeAt(source.at);
}

const BLANK = /[ \t\r\n]*/y;

/** Takes blanks; answers the next unit, -1 at the end. */
export function* skipBlanks(source: Source): Step<number> {
  for (;;) {
    BLANK.lastIndex = source.at;
    BLANK.exec(source.text);
    source.at = BLANK.lastIndex;
    if (source.at < source.text.length) return source.text.charCodeAt(source.at);
    if (!(yield* source.more())) return -1;
  }
}

/** Takes units as long as `pattern` (sticky, of single units) matches, at most `max`; throws when more match. */
export function* takeWhile(source: Source, pattern: RegExp, max: number): Step<string> {
  let taken = '';
  for (;;) {
    pattern.lastIndex = source.at;
    const found = pattern.exec(source.text)?.[0] ?? '';
    taken += found;
    source.at += found.length;
    if (taken.length > max) throw new CallFailure('a word in it is too long');
    if (source.at < source.text.length || !(yield* source.more())) return taken;
  }
}

/** Takes `literal` when it comes next. At the end of the input a beginning of it does not count. */
export function* take(source: Source, literal: string): Step<boolean> {
  for (;;) {
    const unread = source.text.length - source.at;
    if (unread >= literal.length) break;
    if (!literal.startsWith(source.text.slice(source.at)) || !(yield* source.more())) return false;
  }
  if (!source.text.startsWith(literal, source.at)) return false;
  source.at += literal.length;
  return true;
}

/** Takes blanks and what must follow. */
export function* expect(source: Source, literal: string): Step {
  yield* skipBlanks(source);
  if (yield* take(source, literal)) return;
  throw new CallFailure(source.at < source.text.length ? `it lacks ${literal}` : 'it is cut off');
}
