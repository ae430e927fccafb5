// Hand-written splitters for the pretokenizer patterns that nearly all byte-level vocabularies use. Each is equal to its
// regular expression as @huggingface/tokenizers runs it: test/unit/tokenizer/splitters.test.ts compares them.
import {
  CLASS_OF_UNIT,
  classOfPair,
  HIGH_SURROGATE,
  JS_SPACE,
  LETTER,
  MARK,
  NEWLINE,
  NUMBER,
  WHITE_SPACE,
} from './character-classes.ts';
import type { Splitter, WordEnds } from './word-ends.ts';

const APOSTROPHE = 0x27;
const SPACE = 0x20;

/** Flags of the character at i, with HIGH_SURROGATE when it takes two units. */
function classAt(units: Uint16Array, i: number, to: number): number {
  const flags = CLASS_OF_UNIT[units[i]!]!;
  if ((flags & HIGH_SURROGATE) === 0) return flags;
  if (i + 1 >= to) return 0;
  const low = units[i + 1]!;
  return (low & 0xfc00) === 0xdc00 ? classOfPair(units[i]!, low) | HIGH_SURROGATE : 0;
}

/** End of the run of characters that have one of `wanted` and none of `refused`; wanted 0 = any. */
function runEnd(units: Uint16Array, from: number, to: number, wanted: number, refused: number): number {
  let i = from;
  while (i < to) {
    let flags = CLASS_OF_UNIT[units[i]!]!;
    if ((flags & HIGH_SURROGATE) !== 0) flags = classAt(units, i, to);
    if ((flags & refused) !== 0 || (wanted !== 0 && (flags & wanted) === 0)) break;
    i += (flags & HIGH_SURROGATE) !== 0 ? 2 : 1;
  }
  return i;
}

/** Length of the contraction at i ('s 't 're 've 'm 'll 'd), 0 when there is none. `fold` 0x20 ignores ASCII case. */
function contractionUnits(units: Uint16Array, i: number, to: number, fold: number): number {
  if (i + 1 >= to) return 0;
  const first = units[i + 1]! | fold;
  if (units[i + 1]! > 0x7a) return 0;
  if (first === 0x73 || first === 0x74 || first === 0x6d || first === 0x64) return 2; // s t m d
  if (i + 2 >= to || units[i + 2]! > 0x7a) return 0;
  const second = units[i + 2]! | fold;
  if (second === 0x65 && (first === 0x72 || first === 0x76)) return 3; // re ve
  return first === 0x6c && second === 0x6c ? 3 : 0; // ll
}

/** \s+(?!\S)|\s+ at a blank: all blanks at the end of the text, else all but the last, which may open the next word. */
function blankEnd(units: Uint16Array, i: number, to: number, space: number): number {
  const end = runEnd(units, i + 1, to, space, 0);
  return end === to || end === i + 1 ? end : end - 1;
}

/**
 * GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * The library writes it as a JavaScript literal, so \s is JavaScript's.
 */
export const splitGpt2: Splitter = (_text, units, from, to, words) => {
  const { ends } = words;
  let count = words.count;
  let i = from;
  while (i < to) {
    const unit = units[i]!;
    if (unit === APOSTROPHE) {
      const length = contractionUnits(units, i, to, 0);
      if (length > 0) {
        i += length;
        ends[count++] = i;
        continue;
      }
    }
    const start = unit === SPACE && i + 1 < to ? i + 1 : i;
    const flags = classAt(units, start, to);
    if ((flags & LETTER) !== 0) i = runEnd(units, start, to, LETTER, 0);
    else if ((flags & NUMBER) !== 0) i = runEnd(units, start, to, NUMBER, 0);
    else if ((flags & JS_SPACE) === 0) i = runEnd(units, start, to, 0, JS_SPACE | LETTER | NUMBER);
    else i = blankEnd(units, i, to, JS_SPACE);
    ends[count++] = i;
  }
  words.count = count;
};

export type ModernPattern = {
  /** \p{L} or [\p{L}\p{M}] makes words. */
  letters: number;
  /** \p{N}, \p{N}{1,3}, \p{N}+ */
  digitsMax: number;
};

/** Blanks: up to and with their last newline, else like blankEnd. */
function modernBlankEnd(units: Uint16Array, i: number, to: number): number {
  let newline = -1;
  let end = i;
  while (end < to) {
    const flags = CLASS_OF_UNIT[units[end]!]!;
    if ((flags & WHITE_SPACE) === 0) break;
    if ((flags & NEWLINE) !== 0) newline = end;
    end += 1;
  }
  if (newline >= 0) return newline + 1;
  return end === to || end === i + 1 ? end : end - 1;
}

function digitsEnd(units: Uint16Array, from: number, to: number, digitsMax: number): number {
  let i = from;
  for (let digits = 0; i < to && digits < digitsMax; digits += 1) {
    const flags = classAt(units, i, to);
    if ((flags & NUMBER) === 0) break;
    i += (flags & HIGH_SURROGATE) !== 0 ? 2 : 1;
  }
  return i;
}

/**
 * cl100k and its children (Llama 3, Qwen): for letters \p{L}
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 */
export function createModernSplitter({ letters, digitsMax }: ModernPattern): Splitter {
  const other = WHITE_SPACE | letters | NUMBER;
  return (_text, units, from, to, words: WordEnds) => {
    const { ends } = words;
    let count = words.count;
    let i = from;
    while (i < to) {
      const unit = units[i]!;
      if (unit === APOSTROPHE) {
        const length = contractionUnits(units, i, to, 0x20);
        if (length > 0) {
          i += length;
          ends[count++] = i;
          continue;
        }
      }
      const flags = classAt(units, i, to);
      if ((flags & letters) !== 0) {
        i = runEnd(units, i + ((flags & HIGH_SURROGATE) !== 0 ? 2 : 1), to, letters, 0);
      } else if ((flags & NUMBER) !== 0) {
        i = digitsEnd(units, i, to, digitsMax);
      } else {
        const next = i + ((flags & HIGH_SURROGATE) !== 0 ? 2 : 1);
        const nextFlags = next < to ? classAt(units, next, to) : WHITE_SPACE;
        if ((flags & NEWLINE) === 0 && (nextFlags & letters) !== 0) {
          i = runEnd(units, next, to, letters, 0); // [^\r\n\p{L}\p{N}]\p{L}+
        } else if ((flags & WHITE_SPACE) === 0 || (unit === SPACE && (nextFlags & other) === 0)) {
          i = runEnd(units, next, to, 0, other); //  ?[^\s\p{L}\p{N}]+[\r\n]*
          while (i < to && (CLASS_OF_UNIT[units[i]!]! & NEWLINE) !== 0) i += 1;
        } else {
          i = modernBlankEnd(units, i, to);
        }
      }
      ends[count++] = i;
    }
    words.count = count;
  };
}

/** ASCII digits apart from the rest, each alone or in runs: the library's Digits ([^\d]+|\d+ with JavaScript's \d). */
export function createDigitsSplitter(individual: boolean): Splitter {
  const isDigit = (unit: number): boolean => unit >= 0x30 && unit <= 0x39;
  return (_text, units, from, to, words) => {
    let i = from;
    while (i < to) {
      const digit = isDigit(units[i]!);
      i += 1;
      if (!digit || !individual) while (i < to && isDigit(units[i]!) === digit) i += 1;
      words.ends[words.count++] = i;
    }
  };
}

const LETTER_CLASSES: readonly (readonly [string, string, number])[] = [
  ['\\p{L}', '\\p{L}', LETTER],
  ['[\\p{L}\\p{M}]', '\\p{L}\\p{M}', LETTER | MARK],
];
const DIGIT_RUNS: readonly (readonly [string, number])[] = [
  ['\\p{N}', 1],
  ['\\p{N}{1,3}', 3],
  ['\\p{N}+', Number.MAX_SAFE_INTEGER],
];
const CONTRACTIONS = ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"];

/** Patterns written by their authors in slightly different ways that match the same. */
function spellings(one: string, inside: string, digits: string): string[] {
  return CONTRACTIONS.flatMap((contraction) =>
    // \s is greedy, so with or without the + both end behind the last newline of the run
    ['\\s*[\\r\\n]+', '\\s*[\\r\\n]'].flatMap((newlines) =>
      [`[^\\r\\n\\p{L}\\p{N}]?${one}+`].map(
        (word) => `${contraction}|${word}|${digits}| ?[^\\s${inside}\\p{N}]+[\\r\\n]*|${newlines}|\\s+(?!\\S)|\\s+`,
      ),
    ),
  );
}

const MODERN: ReadonlyMap<string, ModernPattern> = new Map(
  LETTER_CLASSES.flatMap(([one, inside, letters]) =>
    DIGIT_RUNS.flatMap(([digits, digitsMax]) =>
      spellings(one, inside, digits).map((source) => [source, { letters, digitsMax }] as const),
    ),
  ),
);

/** The hand-written splitter of a Split pattern, or null for a pattern that is not one of the well-known ones. */
export function knownSplitter(pattern: string): Splitter | null {
  const modern = MODERN.get(pattern);
  return modern ? createModernSplitter(modern) : null;
}
