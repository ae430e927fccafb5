// Keeps untrusted text from becoming control tokens when it goes through a chat template. Three code points that occur
// nowhere in the request or the template mark it; the template carries them along and they are deleted afterwards:
//   light   after the first character of every literal of an added token. The prompt is made from this rendering.
//   heavy   in front of and after every character. A second rendering, the witness, in which no literal can hold an
//           untrusted character, not even one that the template itself completes ('<' ~ key ~ '>' with the key "think").
// When both renderings hold the same literals, all of them are the template's own; else the prompt is made from a heavy
// rendering. test/unit/tokenizer/chat-prompt.test.ts
import { QuernError } from '#kit/errors.ts';
import { type AddedToken, escapePattern } from './added-tokens.ts';

/** Where a string comes from. Tools are shared by many conversations; messages and variables are private. */
export type Origin = 'message' | 'variable' | 'tool';

/** What is done to each untrusted string. Must answer '' for ''. */
export type Guard = (text: string, origin: Origin) => string;

export type GuardMarks = {
  /** Breaks literals in both renderings. */
  readonly shared: string;
  /** In place of `shared` in what is private to a conversation, in the witness: the first one ends the public prefix. */
  readonly private: string;
  /** Where a continued message ends. */
  readonly end: string;
};

const FIRST = 0xe000; // Private Use Area of the BMP
const LAST = 0xf8ff;
/** A private-use character, or one as tojson(ensure_ascii=true) writes it. */
const PRIVATE_USE = /[\ue000-\uf8ff]|\\u[ef][0-9a-f]{3}/gi;

/** Collects the private-use code points that `text` holds. */
export function notePrivateUse(text: string, seen: Set<number>): void {
  for (const [match] of text.matchAll(PRIVATE_USE)) {
    seen.add(match.length === 1 ? match.charCodeAt(0) : Number.parseInt(match.slice(2), 16));
  }
}

/** `text` without a mark, also where a template wrote it as an escape. */
export function removeMark(text: string, mark: string): string {
  return text.replaceAll(mark, '').replaceAll(`\\u${mark.charCodeAt(0).toString(16)}`, '');
}

/** Three code points that are not in `seen`. Throws INVALID_ARGUMENT when a request uses nearly all of them. */
export function chooseMarks(seen: ReadonlySet<number>): GuardMarks {
  const free: string[] = [];
  for (let code = FIRST; code <= LAST && free.length < 3; code += 1) {
    if (!seen.has(code)) free.push(String.fromCharCode(code));
  }
  const [shared, secret, end] = free;
  if (shared !== undefined && secret !== undefined && end !== undefined) return { shared, private: secret, end };
  const expected = `expected text that leaves 3 of the ${LAST - FIRST + 1} private-use characters U+E000..U+F8FF unused`;
  const text = `${expected}, got ${free.length}; remove some`;
  throw new QuernError('INVALID_ARGUMENT', text, { reason: 'TEXT_UNSAFE' });
}

/** Puts a mark after the first character of every literal, also of overlapping ones. */
export function createLightGuard(added: readonly AddedToken[]): (mark: string) => Guard {
  if (added.length === 0) return () => (text) => text;
  // The rest of the literal is only looked at, so that the next literal may begin inside it.
  const alternatives = added.map(({ content }) => {
    const first = String.fromCodePoint(content.codePointAt(0)!);
    return `${escapePattern(first)}(?=${escapePattern(content.slice(first.length))})`;
  });
  const pattern = new RegExp(alternatives.join('|'), 'g');
  return (mark) => {
    const replacement = `$&${mark}`;
    return (text) => text.replace(pattern, replacement);
  };
}

/** Letters and digits of a text in lower case: what filters such as replace, lower or trim leave of it at most. */
function skeleton(text: string): string {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');
}

/**
 * Marks every character, of long strings those at both ends (`edgeUnits`) and leaves out what lies between. The template's
 * own words stay as they are, so that its comparisons (`type == "string"`) come out the same, except words out of which a
 * template could complete a literal.
 */
export function createHeavyGuard(
  added: readonly AddedToken[],
  words: ReadonlySet<string>,
): (marks: GuardMarks, edgeUnits: number) => Guard {
  const skeletons = added.map(({ content }) => skeleton(content));
  const harmless = new Set<string>();
  for (const word of words) {
    const bare = skeleton(word);
    if (bare.length > 0 && !skeletons.some((one) => one.includes(bare))) harmless.add(word);
  }
  return (marks, edgeUnits) => (text, origin) => {
    if (text.length === 0 || (origin !== 'message' && harmless.has(text)) || /^\s+$/.test(text)) return text;
    const mark = origin === 'tool' ? marks.shared : marks.private;
    const marked = (part: string): string => mark + part.replace(/[\s\S]/gu, `$&${mark}`);
    if (text.length <= 2 * edgeUnits) return marked(text);
    return marked(text.slice(0, edgeUnits)) + marked(text.slice(-edgeUnits));
  };
}
