// JSON arguments that come in pieces, to valid JSON text in the types of the schema, as soon as each piece is certain:
// strings, objects and arrays that the schema wants as such go out while they come, everything else when it is whole.
import { coerceText, coerceValue, itemSchema, propertySchema, type Schema, streams } from './argument-coercion.ts';
import { CallFailure } from './events.ts';
import { peek, type Source, type Step, skipBlanks, TextSource, takeWhile } from './feed.ts';
import { ARGUMENT_DEPTH_MAX, CALL_UNITS_MAX } from './limits.ts';
import { escapeText, type Lossless, parseLossless, readScalar, writeLossless } from './lossless-json.ts';

export type Sink = (text: string) => void;

const nowhere: Sink = () => {};
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BRACKET = 0x5b;
const BRACKET_END = 0x5d;
const BACKSLASH = 0x5c;
const BRACE = 0x7b;
const BRACE_END = 0x7d;

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);
const HEX = /^[0-9a-fA-F]{4}$/;
const SPECIAL = /["\\]/g;
const SCALAR = /[^\s,\]}:"{[]*/y;
const STRUCTURE = /["{}[\]]/g;
const SCALAR_UNITS_MAX = 4096;

const broken = (what: string): CallFailure => new CallFailure(`its JSON is broken: ${what}`);
const cut = (): CallFailure => new CallFailure('it is cut off');

/** Joins the halves of surrogate pairs that come one after the other, so that no piece ends inside a character. */
export class Pairs {
  #half = '';
  readonly #sink: Sink;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  push(piece: string): void {
    if (piece === '') return;
    const text = this.#half + piece;
    const last = text.charCodeAt(text.length - 1);
    const whole = last >= 0xd800 && last <= 0xdbff ? text.length - 1 : text.length;
    this.#half = text.slice(whole);
    if (whole > 0) this.#sink(text.slice(0, whole));
  }

  end(): void {
    if (this.#half !== '') this.#sink(this.#half);
    this.#half = '';
  }
}

function* readEscape(source: Source): Step<string> {
  const char = String.fromCharCode(yield* peek(source));
  if (source.at >= source.text.length) throw cut();
  source.at += 1;
  if (char !== 'u') {
    const meant = ESCAPES.get(char);
    if (meant === undefined) throw broken('an unknown escape');
    return meant;
  }
  let digits = '';
  while (digits.length < 4) {
    if ((yield* peek(source)) < 0) throw cut();
    digits += source.text[source.at];
    source.at += 1;
  }
  if (!HEX.test(digits)) throw broken('an unknown escape');
  return String.fromCharCode(Number.parseInt(digits, 16));
}

/** The next decoded piece of a string whose quote was taken; null behind its end. Line ends may stand in it as they are. */
function* stringPiece(source: Source): Step<string | null> {
  if ((yield* peek(source)) < 0) throw cut();
  SPECIAL.lastIndex = source.at;
  const special = SPECIAL.exec(source.text)?.index ?? source.text.length;
  if (special > source.at) {
    const piece = source.text.slice(source.at, special);
    source.at = special;
    return piece;
  }
  source.at += 1;
  return source.text.charCodeAt(special) === BACKSLASH ? yield* readEscape(source) : null;
}

/** A string whose quote was taken, decoded, in pieces of whole characters. `restore`: see TagMarks. */
export function* readString(source: Source, sink: Sink, restore: (text: string) => string): Step {
  const pairs = new Pairs(sink);
  for (let piece = yield* stringPiece(source); piece !== null; piece = yield* stringPiece(source)) {
    pairs.push(restore(piece));
  }
  pairs.end();
}

/** The inside of a JSON string as a source of its own: arguments that were encoded twice. */
class StringSource implements Source {
  text = '';
  at = 0;
  ended = false;
  readonly #outer: Source;

  constructor(outer: Source) {
    this.#outer = outer;
  }

  *more(): Step<boolean> {
    if (this.ended) return false;
    const piece = yield* stringPiece(this.#outer);
    this.ended = piece === null;
    if (piece === null) return false;
    this.text = this.text.slice(this.at) + piece;
    this.at = 0;
    return true;
  }
}

export class JsonArguments {
  readonly #restore: (text: string) => string;

  /** `restore`: text with the literals of tags that came as one id. */
  constructor(restore: (text: string) => string) {
    this.#restore = restore;
  }

  /**
   * The value behind "arguments": an object, its JSON in a string, or nothing (null, ''). Writes an object. Throws
   * CallFailure for what is none, or does not fit the schema.
   */
  *read(source: Source, schema: Schema, sink: Sink): Step {
    const first = yield* skipBlanks(source);
    if (first === QUOTE) {
      source.at += 1;
      const inner = new StringSource(source);
      if ((yield* skipBlanks(inner)) < 0) sink('{}');
      else yield* this.#topLevel(inner, schema, sink);
      if ((yield* skipBlanks(inner)) >= 0) throw broken('more text behind the arguments');
      return;
    }
    yield* this.#topLevel(source, schema, sink);
  }

  *#topLevel(source: Source, schema: Schema, sink: Sink): Step {
    const first = yield* skipBlanks(source);
    if (first === BRACE) {
      yield* this.#object(source, schema, sink, 1);
      return;
    }
    if (first < 0) throw cut();
    const word = yield* takeWhile(source, SCALAR, SCALAR_UNITS_MAX);
    if (word !== 'null') throw broken('its arguments are no object');
    sink('{}');
  }

  /** A whole JSON value, checked and left out. */
  *skip(source: Source): Step {
    yield* this.#value(source, null, nowhere, 1);
  }

  /** A whole JSON value as it was written. */
  *raw(source: Source): Step<string> {
    const first = yield* skipBlanks(source);
    if (first === BRACE || first === BRACKET) return yield* this.#nested(source);
    if (first !== QUOTE) return yield* takeWhile(source, SCALAR, SCALAR_UNITS_MAX);
    let text = '';
    source.at += 1;
    const add: Sink = (piece) => {
      text += piece;
    };
    yield* readString(source, add, this.#restore);
    return JSON.stringify(text);
  }

  *key(source: Source): Step<string> {
    if ((yield* skipBlanks(source)) !== QUOTE)
      throw source.at < source.text.length ? broken('a key is missing') : cut();
    source.at += 1;
    let key = '';
    const add: Sink = (piece) => {
      key += piece;
    };
    yield* readString(source, add, this.#restore);
    yield* this.expect(source, COLON);
    return key;
  }

  *expect(source: Source, unit: number): Step {
    const next = yield* skipBlanks(source);
    if (next < 0) throw cut();
    if (next !== unit) throw broken(`${String.fromCharCode(unit)} is missing`);
    source.at += 1;
  }

  /** Behind a member or an item: true when another one follows. */
  *another(source: Source, end: number): Step<boolean> {
    const next = yield* skipBlanks(source);
    if (next < 0) throw cut();
    if (next !== COMMA && next !== end) throw broken('a comma is missing');
    source.at += 1;
    return next === COMMA;
  }

  *#object(source: Source, schema: Schema, sink: Sink, depth: number): Step {
    source.at += 1;
    sink('{');
    const seen = new Set<string>();
    let goesOn = (yield* skipBlanks(source)) !== BRACE_END;
    if (!goesOn) source.at += 1;
    while (goesOn) {
      const key = yield* this.key(source);
      if (seen.has(key)) yield* this.#value(source, null, nowhere, depth + 1);
      else {
        sink(`${seen.size > 0 ? ',' : ''}${JSON.stringify(key)}:`);
        seen.add(key);
        yield* this.#value(source, propertySchema(schema, key), sink, depth + 1);
      }
      goesOn = yield* this.another(source, BRACE_END);
    }
    sink('}');
  }

  *#array(source: Source, schema: Schema, sink: Sink, depth: number): Step {
    source.at += 1;
    sink('[');
    let goesOn = (yield* skipBlanks(source)) !== BRACKET_END;
    if (!goesOn) source.at += 1;
    for (let index = 0; goesOn; index += 1) {
      if (index > 0) sink(',');
      yield* this.#value(source, itemSchema(schema, index), sink, depth + 1);
      goesOn = yield* this.another(source, BRACKET_END);
    }
    sink(']');
  }

  *#value(source: Source, schema: Schema, sink: Sink, depth: number): Step {
    if (depth > ARGUMENT_DEPTH_MAX) throw new CallFailure('its arguments are nested too deep');
    const first = yield* skipBlanks(source);
    if (first === QUOTE) yield* this.#string(source, schema, sink);
    else if (first === BRACE && streams(schema, 'object')) yield* this.#object(source, schema, sink, depth);
    else if (first === BRACKET && streams(schema, 'array')) yield* this.#array(source, schema, sink, depth);
    else if (first === BRACE || first === BRACKET) {
      const value = parseLossless(yield* this.#nested(source));
      if (value === undefined) throw broken('an argument does not parse');
      sink(fitting(value, schema));
    } else if (first < 0) throw cut();
    else {
      const text = yield* takeWhile(source, SCALAR, SCALAR_UNITS_MAX);
      if (source.at >= source.text.length) throw cut(); // more of it may be missing
      const value = readScalar(text);
      if (value === undefined) throw broken('a value is none');
      sink(fitting(value, schema));
    }
  }

  *#string(source: Source, schema: Schema, sink: Sink): Step {
    source.at += 1;
    if (streams(schema, 'string')) {
      sink('"');
      yield* readString(source, (piece) => sink(escapeText(piece)), this.#restore);
      sink('"');
      return;
    }
    let text = '';
    const add: Sink = (piece) => {
      text += piece;
    };
    yield* readString(source, add, this.#restore);
    sink(fitting(text, schema));
  }

  /** An object or array as it was written; only its brackets and strings are understood. */
  *#nested(source: Source): Step<string> {
    let text = '';
    for (let depth = 0; ; ) {
      if ((yield* peek(source)) < 0) throw cut();
      STRUCTURE.lastIndex = source.at;
      const at = STRUCTURE.exec(source.text)?.index ?? source.text.length;
      text += source.text.slice(source.at, at);
      if (text.length > CALL_UNITS_MAX) throw new CallFailure('it is too long');
      source.at = at;
      if (at === source.text.length) continue;
      const unit = source.text.charCodeAt(at);
      if (unit === QUOTE) {
        text += yield* this.raw(source);
        continue;
      }
      text += source.text[at];
      source.at += 1;
      depth += unit === BRACE || unit === BRACKET ? 1 : -1;
      if (depth === 0) return text;
    }
  }
}

/** A value as JSON in the type that the schema wants. Throws CallFailure when it does not fit. */
export function fitting(value: Lossless, schema: Schema): string {
  const made = coerceValue(value, schema);
  if (made === undefined) throw new CallFailure('an argument does not fit the schema');
  return writeLossless(made);
}

/** Text without a type of its own as JSON. Throws CallFailure when it does not fit. */
export function fittingText(text: string, schema: Schema): string {
  const made = coerceText(text, schema);
  if (made === undefined) throw new CallFailure('an argument does not fit the schema');
  return writeLossless(made);
}

/** The value of a call whose arguments came before its name. */
export function textSource(text: string): Source {
  return new TextSource(text);
}
