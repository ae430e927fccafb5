// JSON values that lose nothing: numbers keep their digits, objects are maps, so that no key is special.
import { ARGUMENT_DEPTH_MAX } from './limits.ts';

/** A number as it was written. */
export class JsonNumber {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Lossless = null | boolean | string | JsonNumber | Lossless[] | Map<string, Lossless>;

export const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** The inside of a JSON string, without its quotes. Half surrogate pairs become escapes. */
export function escapeText(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** Without blanks; what parseLossless made of it comes out again. */
export function writeLossless(value: Lossless): string {
  if (value instanceof JsonNumber) return value.text;
  if (Array.isArray(value)) return `[${value.map(writeLossless).join(',')}]`;
  if (value instanceof Map) {
    const members = [...value].map(([key, child]) => `${JSON.stringify(key)}:${writeLossless(child)}`);
    return `{${members.join(',')}}`;
  }
  return JSON.stringify(value);
}

const BLANKS = /[ \t\r\n]*/y;
const STRING = /"[^"\\]*(?:\\[\s\S][^"\\]*)*"/y;
const SCALAR = /[^\s,\]}:"{[]+/y;

class Broken extends Error {}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): Lossless {
    const value = this.#value(1);
    this.#blanks();
    if (this.#at < this.#text.length) throw new Broken();
    return value;
  }

  #blanks(): void {
    this.#take(BLANKS);
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += found.length;
    return found;
  }

  /** Takes `char` if it is next. */
  #next(char: string): boolean {
    this.#blanks();
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }

  #expect(char: string): void {
    if (!this.#next(char)) throw new Broken();
  }

  #value(depth: number): Lossless {
    if (depth > ARGUMENT_DEPTH_MAX) throw new Broken();
    if (this.#next('{')) return this.#object(depth);
    if (this.#next('[')) return this.#array(depth);
    if (this.#text[this.#at] === '"') return this.#string();
    return scalarValue(this.#take(SCALAR));
  }

  #object(depth: number): Lossless {
    const members = new Map<string, Lossless>();
    if (this.#next('}')) return members;
    do {
      this.#blanks();
      const key = this.#string();
      this.#expect(':');
      const value = this.#value(depth + 1);
      if (!members.has(key)) members.set(key, value); // the first one counts, as in a stream
    } while (this.#next(','));
    this.#expect('}');
    return members;
  }

  #array(depth: number): Lossless {
    const items: Lossless[] = [];
    if (this.#next(']')) return items;
    do items.push(this.#value(depth + 1));
    while (this.#next(','));
    this.#expect(']');
    return items;
  }

  /** Line ends and tabs may stand in it as they are: models write them so. */
  #string(): string {
    const literal = this.#take(STRING);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is escaped
    const escaped = literal.replace(/[\u0000-\u001f]/g, (char) => escapeText(char));
    try {
      return JSON.parse(escaped) as string;
    } catch {
      throw new Broken();
    }
  }
}

/** true, false, null or a number; throws for other text. */
function scalarValue(text: string): Lossless {
  const value = readScalar(text);
  if (value === undefined) throw new Broken();
  return value;
}

/** Undefined: `text` is no JSON scalar without quotes. */
export function readScalar(text: string): JsonNumber | boolean | null | undefined {
  if (text === 'true') return true;
  if (text === 'false') return false;
  if (text === 'null') return null;
  return NUMBER.test(text) ? new JsonNumber(text) : undefined;
}

/** Undefined: `text` is not one JSON value, or nested deeper than arguments may be. */
export function parseLossless(text: string): Lossless | undefined {
  try {
    return new Reader(text).whole();
  } catch (error) {
    if (error instanceof Broken) return undefined;
    throw error;
  }
}
