/** Filters 4, 5, 8 and 14: a model that goes in circles, or says what stands around the cursor already. */
import { EQUAL_LINES_MAX, NEXT_LINES_COMPARED, OVERLAP_LINES_MAX } from '../limits.ts';
import { type Filter, hasWord, isBlank, linesAbove, linesBelow, withText } from './draft.ts';
import { isWithinEdits } from './edit-distance.ts';

const LOOP_UNIT_CHARS_MAX = 60;
const LOOP_COUNT_MIN = 4;
/** Longer texts are not compared in full: two of this length are alike or not by their beginnings. */
const COMPARED_CHARS_MAX = 2_000;
const BLOCK_LINES_MAX = 12;
const BLOCK_COUNT_MIN = 3;

/** The line ends with one unit, which has a letter or digit, at least four times over. */
function loops(line: string): boolean {
  for (let unit = 2; unit <= Math.min(LOOP_UNIT_CHARS_MAX, Math.floor(line.length / LOOP_COUNT_MIN)); unit++) {
    // The text may be cut within a unit: repetition is asked of the distance, not of where units begin.
    const wanted = unit * (LOOP_COUNT_MIN - 1);
    let same = 0;
    while (same < wanted && line[line.length - 1 - same] === line[line.length - 1 - same - unit]) same++;
    if (same === wanted && hasWord(line.slice(-unit))) return true;
  }
  return false;
}

export const dropLoopingLastLine: Filter = (draft) => {
  const at = draft.text.lastIndexOf('\n');
  const last = draft.text.slice(at + 1);
  return loops(last.trimEnd()) ? withText(draft, draft.text.slice(0, Math.max(0, at))) : draft;
};

/** Alike within 5 % of their length, or one edit where they are long enough for one to mean little. */
function alike(a: string, b: string): boolean {
  const left = a.slice(0, COMPARED_CHARS_MAX);
  const right = b.slice(0, COMPARED_CHARS_MAX);
  const most = Math.max(left.length > 5 ? 1 : 0, Math.floor(left.length * 0.05));
  return isWithinEdits(left, right, most);
}

export const dropLikeNextLines: Filter = (draft, { around }) => {
  const said = draft.text.trim();
  if (said === '') return draft;
  const below = linesBelow(around, OVERLAP_LINES_MAX).filter((line) => !isBlank(line));
  const own = said.split('\n').filter((line) => !isBlank(line));
  const whole = (around.linePrefix + draft.text).trim();
  for (let from = 0; from < NEXT_LINES_COMPARED && from + own.length <= below.length; from++) {
    const theirs = below
      .slice(from, from + own.length)
      .join('\n')
      .trim();
    if (alike(said, theirs) || alike(whole, theirs)) return null;
  }
  return draft;
};

/** How often `size` lines from `from` come again right behind themselves. */
function timesRepeated(lines: readonly string[], from: number, size: number): number {
  let times = 1;
  for (let at = from + size; at + size <= lines.length; at += size) {
    for (let i = 0; i < size; i++) if (lines[at + i] !== lines[from + i]) return times;
    times++;
  }
  return times;
}

export const dropRepeatedBlocks: Filter = (draft) => {
  const lines = draft.text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  for (let from = 0; from < lines.length; from++) {
    if (timesRepeated(lines, from, 1) >= EQUAL_LINES_MAX) return null;
    for (let size = 2; size <= BLOCK_LINES_MAX && from + size * BLOCK_COUNT_MIN <= lines.length; size++) {
      if (timesRepeated(lines, from, size) >= BLOCK_COUNT_MIN && hasWord(lines.slice(from, from + size).join('')))
        return null;
    }
  }
  return draft;
};

export const dropRewriteOfLineAbove: Filter = (draft, { around }) => {
  const above = linesAbove(around, OVERLAP_LINES_MAX).find((line) => !isBlank(line));
  if (above === undefined || !hasWord(above)) return draft;
  const before = around.linePrefix.slice(0, around.linePrefix.length - draft.coverBefore);
  const first = `${before}${draft.text}`.split('\n').find((line) => !isBlank(line));
  return first?.trim() === above.trim() ? null : draft;
};
