/** Filters 9 and 10: a suggestion ends with the block that it is in, and does not close what is closed already. */
import { SCOPE_LINES_MAX } from '../limits.ts';
import { type Filter, indentWidth, isBlank, isCloser, linesBelow, type Surroundings, withText } from './draft.ts';

/** Lines that go on with the block before them at its own indentation. */
const CONTINUES =
  /^\s*(?:[\])}]|else\b|elif\b|catch\b|except\b|finally\b|rescue\b|elsif\b|case\b|default\b|when\b|#(?:else|elif|endif))/;

/**
 * How many units of `text`, which is whole lines but for its last, lie in the scope of the cursor. The answer for a text
 * that goes on may only differ where it is all of it, so a stream may be ended when it is less.
 */
export function scopeEnd(text: string, { linePrefix }: Surroundings): number {
  const lines = text.split('\n');
  const started = !isBlank(linePrefix);
  const base = indentWidth(started || linePrefix !== '' ? linePrefix : (lines.find((line) => !isBlank(line)) ?? ''));
  let at = 0;
  let blank = false;
  for (const [i, line] of lines.entries()) {
    const isLast = i === lines.length - 1;
    if (i >= SCOPE_LINES_MAX) return at - 1;
    if (i > 0 && !isBlank(line)) {
      const width = indentWidth(line);
      if (width < base) return at - 1;
      const atBase = width === base;
      if (atBase && isCloser(line) && !isLast && started) return at + line.length;
      if (atBase && started && !CONTINUES.test(line) && i > 1) return at - 1;
      if (atBase && base === 0 && blank && !CONTINUES.test(line)) return at - 1;
    }
    blank = isBlank(line);
    at += line.length + 1;
  }
  return text.length;
}

export const limitScope: Filter = (draft, { around, singleLine, scoped }) => {
  if (singleLine) return draft;
  if (scoped) return isBlank(around.lineSuffix) ? withText(draft, draft.text.trimEnd()) : draft;
  // A line that is replaced from its beginning carries its own indentation.
  const end = scopeEnd(draft.text.slice(draft.coverBefore), around);
  const kept = draft.text.slice(0, draft.coverBefore + end);
  return withText(draft, isBlank(around.lineSuffix) ? kept.trimEnd() : kept);
};

export const dropDuplicatedCloser: Filter = (draft, { around }) => {
  if (!isBlank(around.lineSuffix)) return draft;
  const at = draft.text.lastIndexOf('\n');
  const last = draft.text.slice(at + 1);
  if (at === -1 || !isCloser(last)) return draft;
  const next = linesBelow(around, SCOPE_LINES_MAX).find((line) => !isBlank(line));
  if (next === undefined || next.trim() !== last.trim() || indentWidth(next) !== indentWidth(last)) return draft;
  return withText(draft, draft.text.slice(0, at).trimEnd());
};
