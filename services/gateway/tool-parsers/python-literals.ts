// Python literals as models write them in calls: strings, numbers, True, False, None, lists, tuples, dicts.
import { CallFailure } from './events.ts';
import { peek, type Source, type Step, skipBlanks, takeWhile } from './feed.ts';
import { ARGUMENT_DEPTH_MAX } from './limits.ts';
import { JsonNumber, type Lossless, NUMBER } from './lossless-json.ts';

const WORD = /[A-Za-z0-9_.+-]*/y;
const WORD_UNITS_MAX = 4096;
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\\', '\\'],
  ["'", "'"],
  ['"', '"'],
  ['a', '\x07'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
  ['\n', ''],
]);
const HEX_DIGITS: ReadonlyMap<string, number> = new Map([
  ['x', 2],
  ['u', 4],
  ['U', 8],
]);
const CONSTANTS: ReadonlyMap<string, Lossless> = new Map<string, Lossless>([
  ['True', true],
  ['False', false],
  ['None', null],
  ['true', true],
  ['false', false],
  ['null', null],
]);

const broken = (what: string): CallFailure => new CallFailure(`its arguments are broken: ${what}`);

function* next(source: Source): Step<string> {
  if ((yield* peek(source)) < 0) throw new CallFailure('it is cut off');
  source.at += 1;
  return source.text[source.at - 1] as string;
}

/** Takes blanks; the next unit, which is not taken. */
function* ahead(source: Source): Step<string> {
  if ((yield* skipBlanks(source)) < 0) throw new CallFailure('it is cut off');
  return source.text[source.at] as string;
}

function* readEscape(source: Source): Step<string> {
  const char = yield* next(source);
  const size = HEX_DIGITS.get(char);
  // What is no escape keeps its backslash, as in Python.
  if (size === undefined) return ESCAPES.get(char) ?? `\\${char}`;
  let digits = '';
  while (digits.length < size) digits += yield* next(source);
  const code = /^[0-9a-fA-F]+$/.test(digits) ? Number.parseInt(digits, 16) : Number.NaN;
  if (!(code <= 0x10ffff)) throw broken('an unknown escape');
  return String.fromCodePoint(code);
}

/** Takes a quote, or three of them; answers what ends the string. */
function* openQuote(source: Source): Step<string> {
  const quote = yield* next(source);
  if ((yield* peek(source)) !== quote.charCodeAt(0)) return quote;
  source.at += 1;
  if ((yield* peek(source)) !== quote.charCodeAt(0)) return '';
  source.at += 1;
  return quote.repeat(3);
}

/** A string, decoded, in pieces that may end inside a surrogate pair. */
export function* readPythonString(source: Source, sink: (text: string) => void): Step {
  const quote = yield* openQuote(source);
  if (quote === '') return;
  const special = quote.startsWith('"') ? /["\\]/g : /['\\]/g;
  for (;;) {
    if ((yield* peek(source)) < 0) throw new CallFailure('it is cut off');
    special.lastIndex = source.at;
    const at = special.exec(source.text)?.index ?? source.text.length;
    if (at > source.at) sink(source.text.slice(source.at, at));
    source.at = at;
    if (at === source.text.length) continue;
    const char = yield* next(source);
    if (char === '\\') sink(yield* readEscape(source));
    else if (quote.length === 1) return;
    else {
      let quotes = 1;
      while (quotes < 3 && (yield* peek(source)) === quote.charCodeAt(0)) {
        source.at += 1;
        quotes += 1;
      }
      if (quotes === 3) return;
      sink(char.repeat(quotes));
    }
  }
}

export function* readPythonValue(source: Source, restore: (text: string) => string, depth = 1): Step<Lossless> {
  if (depth > ARGUMENT_DEPTH_MAX) throw new CallFailure('its arguments are nested too deep');
  const char = yield* ahead(source);
  if (char === '"' || char === "'") {
    let text = '';
    yield* readPythonString(source, (piece) => {
      text += piece;
    });
    return restore(text);
  }
  if (char === '[' || char === '(') return yield* items(source, restore, depth);
  if (char === '{') return yield* members(source, restore, depth);
  const word = yield* takeWhile(source, WORD, WORD_UNITS_MAX);
  if (source.at >= source.text.length) throw new CallFailure('it is cut off');
  const constant = CONSTANTS.get(word);
  if (constant !== undefined) return constant;
  const number = word
    .replace(/^\+/, '')
    .replace(/(?<=\d)\.(?!\d)/, '.0')
    .replace(/^(-?)\./, '$10.');
  if (!NUMBER.test(number)) throw broken('a value is none');
  return new JsonNumber(number);
}

/** Behind an item: true when another one follows; a comma may stand before the end. */
export function* anotherItem(source: Source, end: string): Step<boolean> {
  const char = yield* ahead(source);
  if (char !== ',' && char !== end) throw broken('a comma is missing');
  source.at += 1;
  if (char === end) return false;
  if ((yield* ahead(source)) !== end) return true;
  source.at += 1;
  return false;
}

function* items(source: Source, restore: (text: string) => string, depth: number): Step<Lossless[]> {
  const end = (yield* next(source)) === '[' ? ']' : ')';
  const list: Lossless[] = [];
  let goesOn = (yield* ahead(source)) !== end;
  if (!goesOn) source.at += 1;
  while (goesOn) {
    list.push(yield* readPythonValue(source, restore, depth + 1));
    goesOn = yield* anotherItem(source, end);
  }
  return list;
}

function* members(source: Source, restore: (text: string) => string, depth: number): Step<Map<string, Lossless>> {
  source.at += 1;
  const all = new Map<string, Lossless>();
  let goesOn = (yield* ahead(source)) !== '}';
  if (!goesOn) source.at += 1;
  while (goesOn) {
    const key = yield* readPythonValue(source, restore, depth + 1);
    if (typeof key !== 'string') throw broken('a key is no string');
    if ((yield* ahead(source)) !== ':') throw broken('a colon is missing');
    source.at += 1;
    const value = yield* readPythonValue(source, restore, depth + 1);
    if (!all.has(key)) all.set(key, value);
    goesOn = yield* anotherItem(source, '}');
  }
  return all;
}
