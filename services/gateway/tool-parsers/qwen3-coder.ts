// Qwen3-Coder: <tool_call>\n<function=f>\n<parameter=a>\nvalue\n</parameter>\n</function>\n</tool_call>. Values are raw text that
// may hold anything, tags too: a close tag counts only where what must follow it does. <tool_call> and </parameter> may be missing.
import { propertySchema, type Schema, staysText } from './argument-coercion.ts';
import type { Calls } from './call-parser.ts';
import { CallFailure, NotACall } from './events.ts';
import { expect, type Step, skipBlanks, Tags, take, takeWhile } from './feed.ts';
import { HERMES_TAGS } from './hermes.ts';
import { fittingText, Pairs } from './json-arguments.ts';
import { readJsonCall } from './json-call.ts';
import { CALL_NAME_UNITS_MAX, SEPARATOR_UNITS_MAX } from './limits.ts';
import { escapeText } from './lossless-json.ts';

export const QWEN3_CODER_TAGS = HERMES_TAGS;

const FUNCTION = '<function=';
const FUNCTION_END = '</function>';
const PARAMETER = '<parameter=';
const PARAMETER_END = '</parameter>';
const NAME = /[^>\r\n<]*/y;
const BRACE = 0x7b;
const LINE_END = 0x0a;

/** Raw text in pieces, without one line end behind its open tag and one before its close tag. */
class Value {
  #held = '';
  #isFirst = true;
  readonly #sink: (text: string) => void;

  constructor(sink: (text: string) => void) {
    this.#sink = sink;
  }

  push(piece: string): void {
    let text = this.#held + piece;
    if (this.#isFirst && text !== '') {
      this.#isFirst = false;
      if (text.startsWith('\n')) text = text.slice(1);
    }
    this.#held = text.endsWith('\n') ? '\n' : '';
    const free = this.#held === '' ? text : text.slice(0, -1);
    if (free !== '') this.#sink(free);
  }
}

class CoderCall {
  readonly #calls: Calls;
  readonly #closing: Tags;
  readonly #endings: Tags;
  readonly #afterParameter: Tags;
  readonly #afterFunction: Tags;
  readonly #seen = new Set<string>();
  #schema: Schema = null;

  constructor(calls: Calls, tags: { open: string; close: string; isMarked: boolean }) {
    const { open, close, isMarked } = tags;
    this.#calls = calls;
    this.#closing = new Tags([close]);
    // As one id the close tag is no text of a value.
    this.#endings = new Tags([PARAMETER_END, PARAMETER, FUNCTION_END, ...(isMarked ? [close] : [])]);
    this.#afterParameter = new Tags([PARAMETER, FUNCTION_END, close]);
    this.#afterFunction = new Tags([close, open, FUNCTION]);
  }

  /** Behind "<function=". */
  *read(): Step {
    const { feed } = this.#calls;
    const name = yield* this.#name();
    this.#schema = this.#calls.start(name);
    this.#calls.arguments('{');
    for (;;) {
      yield* skipBlanks(feed);
      if (yield* take(feed, FUNCTION_END)) break;
      if (yield* this.#isClosing()) break;
      yield* expect(feed, PARAMETER);
      yield* this.#parameter(yield* this.#name());
    }
    this.#calls.arguments('}');
  }

  *#name(): Step<string> {
    const { feed } = this.#calls;
    const name = yield* takeWhile(feed, NAME, CALL_NAME_UNITS_MAX);
    if (!(yield* take(feed, '>'))) {
      throw new CallFailure(feed.at < feed.text.length ? 'a tag in it is not closed' : 'it is cut off');
    }
    return name.trim().replace(/^(["'])(.*)\1$/, '$2');
  }

  *#parameter(name: string): Step {
    const calls = this.#calls;
    const schema = propertySchema(this.#schema, name);
    const isRepeated = this.#seen.has(name);
    const key = `${this.#seen.size > 0 ? ',' : ''}${JSON.stringify(name)}:`;
    this.#seen.add(name);
    if (isRepeated) yield* this.#value(() => {});
    else if (staysText(schema)) {
      calls.arguments(`${key}"`);
      const pairs = new Pairs((text) => calls.arguments(escapeText(text)));
      yield* this.#value((text) => pairs.push(text));
      pairs.end();
      calls.arguments('"');
    } else {
      let text = '';
      yield* this.#value((piece) => {
        text += piece;
      });
      calls.arguments(key + fittingText(text, schema));
    }
  }

  *#value(sink: (text: string) => void): Step {
    const { feed } = this.#calls;
    const value = new Value((text) => sink(this.#calls.restore(text)));
    let isLineStart = true;
    const pass = (count: number): void => {
      if (count <= 0) return;
      value.push(feed.text.slice(feed.at, feed.at + count));
      feed.at += count;
      isLineStart = feed.text.charCodeAt(feed.at - 1) === LINE_END;
    };
    for (;;) {
      const found = this.#endings.find(feed.text, feed.at);
      pass((found?.at ?? this.#endings.openAt(feed.text, feed.at)) - feed.at);
      if (!found) {
        if (yield* feed.more()) continue;
        throw new CallFailure('it is cut off');
      }
      if (yield* this.#ends(found.tag, isLineStart)) {
        if (found.tag === PARAMETER_END) feed.at += PARAMETER_END.length;
        return;
      }
      pass(found.tag.length);
    }
  }

  /** The tag that comes next ends the value; else it is a part of it. */
  *#ends(tag: string, isLineStart: boolean): Step<boolean> {
    if (tag === PARAMETER_END) return yield* this.#follows(tag.length, this.#afterParameter);
    if (tag === FUNCTION_END) return isLineStart && (yield* this.#follows(tag.length, this.#afterFunction));
    if (tag === PARAMETER) return isLineStart && (yield* this.#isNewParameter());
    return true;
  }

  /** Blanks and one of `tags` come `ahead` units from here, or the output ends there. */
  *#follows(ahead: number, tags: Tags): Step<boolean> {
    const { feed } = this.#calls;
    for (;;) {
      let at = feed.at + ahead;
      while (' \t\r\n'.includes(feed.text[at] ?? 'x')) at += 1;
      if (at - feed.at - ahead > SEPARATOR_UNITS_MAX) return false;
      const tag = at < feed.text.length ? tags.at(feed.text, at) : 'open';
      if (tag !== 'open') return tag !== null;
      if (!(yield* feed.more())) return true;
    }
  }

  /** "<parameter=name>" with a name that the tool has and that did not come yet: the value before it was never closed. */
  *#isNewParameter(): Step<boolean> {
    const { feed } = this.#calls;
    for (;;) {
      const from = feed.at + PARAMETER.length;
      const start = feed.text.slice(from, from + CALL_NAME_UNITS_MAX);
      const to = start.indexOf('>');
      if (to >= 0) {
        const name = start.slice(0, to);
        return !this.#seen.has(name) && propertySchema(this.#schema, name) !== null;
      }
      if (start.length === CALL_NAME_UNITS_MAX || !(yield* feed.more())) return false;
    }
  }

  /** The call's close tag comes next. */
  *#isClosing(): Step<boolean> {
    const { feed } = this.#calls;
    for (;;) {
      const tag = feed.at < feed.text.length ? this.#closing.at(feed.text, feed.at) : 'open';
      if (tag !== 'open') return tag !== null;
      if (!(yield* feed.more())) return false;
    }
  }
}

export function* qwen3Coder(calls: Calls): Step {
  const { feed } = calls;
  const open = calls.tag('<tool_call>');
  const close = calls.tag('</tool_call>');
  const tags = { open, close, isMarked: close !== '</tool_call>' };
  const opening = new Tags([open, FUNCTION]);
  let tag: string | null = null;
  function* body(): Step {
    if (tag === open) {
      // The format of its sister models, which it falls back to at times.
      if ((yield* skipBlanks(feed)) === BRACE) {
        yield* readJsonCall(calls);
        return;
      }
      if (!(yield* take(feed, FUNCTION))) throw new NotACall();
    } else if (!(yield* isToolNext())) throw new NotACall();
    yield* new CoderCall(calls, tags).read();
  }
  /** Without <tool_call> only the name of a tool tells a call from text about calls. */
  function* isToolNext(): Step<boolean> {
    for (;;) {
      const start = feed.text.slice(feed.at, feed.at + CALL_NAME_UNITS_MAX);
      const to = start.indexOf('>');
      if (to >= 0) return calls.isTool(start.slice(0, to));
      if (start.length === CALL_NAME_UNITS_MAX || !(yield* feed.more())) return false;
    }
  }
  for (tag = yield* calls.textUntil(opening); tag !== null; tag = yield* calls.textUntil(opening)) {
    if (yield* calls.call(body, tag.length, { open, close })) yield* calls.swallow(close);
  }
}
