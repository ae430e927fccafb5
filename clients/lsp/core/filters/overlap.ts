/** Filters 12 and 13: what the text says again of the rest of its line and of the next, and brackets closed by the editor. */
import { OVERLAP_LINES_MAX } from '../limits.ts';
import { type Filter, hasWord, isBlank, linesBelow, withText } from './draft.ts';

/** A last line that was cut is taken for the beginning of a line below from this length. */
const CUT_LINE_CHARS_MIN = 8;

/** Length of the longest end of `text` that `rest` begins with. */
function overlapOf(text: string, rest: string): number {
  for (let length = Math.min(text.length, rest.length); length > 0; length--) {
    if (text.endsWith(rest.slice(0, length))) return length;
  }
  return 0;
}

/** How many last lines of `lines` are the next ones of the document; blank lines count for nothing on either side. */
function linesShared(lines: readonly string[], below: readonly string[], cut: boolean): number {
  const own = lines.map((line) => line.trim());
  const next = below.map((line) => line.trim()).filter((line) => line !== '');
  for (let from = 0; from < own.length; from++) {
    const tail = own.slice(from).filter((line) => line !== '');
    if (tail.length === 0 || tail.length > next.length || own[from] === '') continue;
    const same = tail.every((line, i) => {
      const theirs = next[i]!;
      const begins = cut && i === tail.length - 1 && line.length >= CUT_LINE_CHARS_MIN && theirs.startsWith(line);
      return line === theirs || begins;
    });
    if (same && tail.some(hasWord)) return own.length - from;
  }
  return 0;
}

export const dropOverlap: Filter = (draft, { around, cut }) => {
  const rest = around.lineSuffix;
  let { text } = draft;
  if (!isBlank(rest) && hasWord(rest)) {
    const length = Math.max(overlapOf(text, rest), overlapOf(text, rest.trim()));
    if (hasWord(text.slice(text.length - length))) text = text.slice(0, text.length - length);
    return text.trim() === '' ? null : withText(draft, text);
  }
  const lines = text.split('\n');
  const before = around.linePrefix.slice(0, around.linePrefix.length - draft.coverBefore);
  const whole = [before + (lines[0] ?? ''), ...lines.slice(1)];
  const shared = linesShared(whole, linesBelow(around, OVERLAP_LINES_MAX), cut);
  if (shared === 0) return draft;
  if (shared === lines.length) return null;
  text = lines.slice(0, lines.length - shared).join('\n');
  return withText(draft, isBlank(rest) ? text.trimEnd() : text);
};

const OPENERS: Record<string, string> = { ')': '(', ']': '[', '}': '{', '>': '<' };
const QUOTES = ['"', "'", '`'];

/** Brackets and quotes that the text closes without having opened them, in order. */
function unmatchedClosers(text: string): string[] {
  const stack: string[] = [];
  const unmatched: string[] = [];
  const odd = QUOTES.filter((quote) => (text.split(quote).length - 1) % 2 === 1);
  for (const char of text) {
    if ('([{'.includes(char)) stack.push(char);
    else if (char === ')' || char === ']' || char === '}') {
      if (stack.at(-1) === OPENERS[char]) stack.pop();
      else unmatched.push(char);
    } else if (odd.includes(char)) {
      unmatched.push(char);
      odd.splice(odd.indexOf(char), 1);
    }
  }
  return unmatched;
}

export const coverAutoClosed: Filter = (draft, { around }) => {
  const rest = around.lineSuffix;
  if (isBlank(rest) || !/^\W*$/.test(rest) || draft.coverAfter > 0) return draft;
  const closers = unmatchedClosers(draft.text);
  let covered = 0;
  for (const closer of closers) {
    const at = rest.slice(covered).search(/\S/);
    if (at === -1 || rest[covered + at] !== closer) break;
    covered += at + 1;
  }
  const left = rest.slice(covered).trim();
  if (left !== '' && draft.text.endsWith(left) && (covered > 0 || left === rest.trim()))
    covered = rest.trimEnd().length;
  return covered === 0 ? draft : { ...draft, coverAfter: covered };
};
