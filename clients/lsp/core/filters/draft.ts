/** What the filters work on: a candidate's text and how much of the cursor's line it replaces. */

export type Draft = {
  text: string;
  /** UTF-16 units before the cursor that the text stands for as well. */
  coverBefore: number;
  /** UTF-16 units behind the cursor, on its line. */
  coverAfter: number;
};

/** The text around the cursor, line ends as "\n". */
export type Surroundings = {
  languageId: string;
  prefix: string;
  suffix: string;
  linePrefix: string;
  lineSuffix: string;
};

export type FilterInput = {
  around: Surroundings;
  singleLine: boolean;
  /** The text was cut off by a bound. */
  cut: boolean;
  /** The mesh ended it with the code around the cursor: it read all of that code, with its strings and brackets. */
  scoped: boolean;
  stop: readonly string[];
};

/** A changed draft, or null: nothing of it may be shown. Pure, and linear in the text but for bounded comparisons. */
export type Filter = (draft: Draft, input: FilterInput) => Draft | null;

export const withText = (draft: Draft, text: string): Draft => (text === draft.text ? draft : { ...draft, text });

export const isBlank = (line: string): boolean => line.trim() === '';

/** Has a letter, a digit or an underscore. */
export const hasWord = (text: string): boolean => /[\p{L}\p{N}_]/u.test(text);

/** Lines before the cursor's, nearest first, at most `count`. */
export function linesAbove({ prefix }: Surroundings, count: number): string[] {
  const lines: string[] = [];
  let end = prefix.lastIndexOf('\n');
  while (end !== -1 && lines.length < count) {
    const start = end === 0 ? -1 : prefix.lastIndexOf('\n', end - 1);
    lines.push(prefix.slice(start + 1, end));
    end = start;
  }
  return lines;
}

/** Lines behind the cursor's, nearest first, at most `count`. */
export function linesBelow({ suffix }: Surroundings, count: number): string[] {
  const lines: string[] = [];
  let start = suffix.indexOf('\n');
  while (start !== -1 && lines.length < count) {
    const end = suffix.indexOf('\n', start + 1);
    lines.push(suffix.slice(start + 1, end === -1 ? undefined : end));
    start = end;
  }
  return lines;
}

export const indentOf = (line: string): string => /^[ \t]*/.exec(line)?.[0] ?? '';

/** Columns of leading space, a tab counting as `tab`. */
export const indentWidth = (line: string, tab = 4): number =>
  [...indentOf(line)].reduce((sum, char) => sum + (char === '\t' ? tab : 1), 0);

/** A line of nothing but what closes a block. */
export const isCloser = (line: string): boolean =>
  /^\s*(?:[\])}]+[;,]*|end|fi|done|esac|endif|endfunction)\s*$/.test(line);

/** The line ends with what opens a block in most languages. */
export const opensBlock = (line: string): boolean => /[{([:]\s*$|\b(?:do|then|else)\s*$|=>\s*$/.test(line);
