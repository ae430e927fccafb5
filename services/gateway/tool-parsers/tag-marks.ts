// Tags that a vocabulary holds as one id each. Such a tag reaches a parser as a mark of two high surrogates, which no decoded
// text holds: the id is the tag, and the same characters written in other tokens are text.
import type { Vocabulary } from '../vocabulary.ts';

/** Second unit of the first mark. */
const FIRST = 0xd801;
const MARK = /\ud800([\ud801-\udbff])/g;

export class TagMarks {
  /** Mark of each id that is a tag. */
  readonly byId: ReadonlyMap<number, string>;
  readonly #byLiteral: ReadonlyMap<string, string>;
  readonly #literals: readonly string[];

  constructor(ids: ReadonlyMap<string, number>) {
    this.#literals = [...ids.keys()];
    this.#byLiteral = new Map(this.#literals.map((literal, i) => [literal, `\ud800${String.fromCharCode(FIRST + i)}`]));
    this.byId = new Map([...ids].map(([literal, id]) => [id, this.#byLiteral.get(literal) as string]));
  }

  /** What the parser looks for: the tag's mark, or the tag itself where it has no id of its own. */
  of(literal: string): string {
    return this.#byLiteral.get(literal) ?? literal;
  }

  /** `text` with marks written out as the tags they stand for. */
  readonly restore = (text: string): string => {
    if (this.#literals.length === 0 || !text.includes('\ud800')) return text;
    return text.replace(MARK, (mark, unit: string) => this.#literals[unit.charCodeAt(0) - FIRST] ?? mark);
  };
}

/** No tag has an id: everything is text. */
export const textTags = new TagMarks(new Map());

/** The marks of those tags that are one id each. */
export function tagMarks(vocabulary: Vocabulary, literals: readonly string[]): TagMarks {
  const ids = literals.flatMap((literal): [string, number][] => {
    const id = vocabulary.addedId(literal);
    return id === null ? [] : [[literal, id]];
  });
  return new TagMarks(new Map(ids));
}
