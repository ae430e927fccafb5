// Llama pythonic: [f(a=1), g(b="x")] as the whole answer, or behind <|python_start|> (closed by <|python_end|>) or
// <|python_tag|>. Only a name with an opening parenthesis and a keyword tells it from a list in an answer.
import { propertySchema, type Schema, streams } from './argument-coercion.ts';
import type { Calls } from './call-parser.ts';
import { CallFailure, NotACall } from './events.ts';
import { peek, type Step, skipBlanks, Tags, takeWhile } from './feed.ts';
import { fitting, Pairs } from './json-arguments.ts';
import { CALL_NAME_UNITS_MAX } from './limits.ts';
import { escapeText } from './lossless-json.ts';
import { anotherItem, readPythonString, readPythonValue } from './python-literals.ts';

export const LLAMA_PYTHONIC_TAGS = ['<|python_start|>', '<|python_end|>', '<|python_tag|>'];

const NAME = /[A-Za-z0-9_.-]*/y;
const KEYWORD = /[A-Za-z0-9_]*/y;
const BRACKET = 0x5b;
const PARENTHESIS_END = ')';
const QUOTES = '"\'';

class PythonicCall {
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** name(keyword=value, …) */
  *read(): Step {
    const { feed } = this.#calls;
    yield* skipBlanks(feed);
    const name = yield* this.#word(NAME);
    if (name === '' || !(yield* this.#takes('('))) throw new NotACall();
    const seen = new Set<string>();
    let isOver = yield* this.#takes(PARENTHESIS_END);
    let key = isOver ? '' : yield* this.#keyword();
    const schema = this.#calls.start(name);
    this.#calls.arguments('{');
    while (!isOver) {
      const isRepeated = seen.has(key);
      if (isRepeated) yield* readPythonValue(feed, (text) => text);
      else yield* this.#argument(`${seen.size > 0 ? ',' : ''}${JSON.stringify(key)}:`, propertySchema(schema, key));
      seen.add(key);
      isOver = !(yield* anotherItem(feed, PARENTHESIS_END));
      if (!isOver) key = yield* this.#keyword();
    }
    this.#calls.arguments('}');
  }

  /** Nothing of a call may be longer than a name before the call has begun: what is no call must not wait. */
  *#word(pattern: RegExp): Step<string> {
    try {
      return yield* takeWhile(this.#calls.feed, pattern, CALL_NAME_UNITS_MAX);
    } catch (error) {
      throw this.#refusal(error);
    }
  }

  #refusal(error: unknown): unknown {
    return error instanceof CallFailure && !this.#calls.isOpen ? new NotACall() : error;
  }

  *#takes(char: string): Step<boolean> {
    const { feed } = this.#calls;
    const isNext = (yield* skipBlanks(feed)) === char.charCodeAt(0);
    if (isNext) feed.at += 1;
    return isNext;
  }

  *#keyword(): Step<string> {
    const { feed } = this.#calls;
    yield* skipBlanks(feed);
    const keyword = yield* this.#word(KEYWORD);
    if (keyword !== '' && (yield* this.#takes('='))) return keyword;
    const isCut = feed.at >= feed.text.length;
    throw this.#refusal(new CallFailure(isCut ? 'it is cut off' : 'an argument has no name'));
  }

  *#argument(key: string, schema: Schema): Step {
    const { feed } = this.#calls;
    const first = yield* skipBlanks(feed);
    const isString = first >= 0 && QUOTES.includes(String.fromCharCode(first));
    const restore = (text: string): string => this.#calls.restore(text);
    if (!isString || !streams(schema, 'string')) {
      const value = yield* readPythonValue(feed, restore);
      this.#calls.arguments(key + fitting(value, schema));
      return;
    }
    this.#calls.arguments(`${key}"`);
    const pairs = new Pairs((text) => this.#calls.arguments(escapeText(text)));
    yield* readPythonString(feed, (text) => pairs.push(restore(text)));
    pairs.end();
    this.#calls.arguments('"');
  }
}

export function* llamaPythonic(calls: Calls): Step {
  const { feed } = calls;
  const end = calls.tag('<|python_end|>');
  const begin = [calls.tag('<|python_start|>'), calls.tag('<|python_tag|>')];
  const opening = new Tags(begin);
  function* first(): Step {
    if ((yield* skipBlanks(feed)) !== BRACKET) throw new NotACall();
    feed.at += 1;
    yield* new PythonicCall(calls).read();
  }
  function* next(): Step {
    yield* new PythonicCall(calls).read();
  }
  /** A list whose opening tag had `before` units. */
  function* list(before: number): Step {
    const edges = { close: end };
    let isCall = yield* calls.call(first, before, edges);
    while (isCall && (yield* calls.swallow(','))) isCall = yield* calls.call(next, 0, edges);
    if (isCall && (yield* calls.swallow(']'))) yield* calls.swallow(end);
  }
  yield* calls.blanksAsText();
  if ((yield* peek(feed)) === BRACKET) yield* list(0);
  for (let tag = yield* calls.textUntil(opening); tag !== null; tag = yield* calls.textUntil(opening)) {
    yield* list(tag.length);
  }
}
