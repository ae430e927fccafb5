/** Where a completion is asked for: a snapshot of the text around the cursor, cut so that prefix caches can work. */
import type { Document, Position, Range } from './documents.ts';
import { PREFIX_LINES_MAX, SUFFIX_LINES_MAX } from './limits.ts';
import { WIDEST, type Window } from './room.ts';

export type SelectedCompletion = { range: Range; text: string };

export type Place = {
  uri: string;
  languageId: string;
  version: number;
  position: Position;
  /** Line ends are "\n" in both. */
  prefix: string;
  suffix: string;
  /** The cursor's line before and behind it. */
  linePrefix: string;
  lineSuffix: string;
  /** The document's own. */
  lineEnd: '\n' | '\r\n';
  /** What the editor's own list has selected: a suggestion must begin with its text and replace its range. */
  selected: SelectedCompletion | null;
};

const toLf = (text: string): string => (text.includes('\r') ? text.replaceAll('\r\n', '\n') : text);

/** First line of the window for a cursor in `line`: a multiple of the grid, at most PREFIX_LINES_MAX before it. */
export function windowStartLine(line: number, { gridLines }: Window = WIDEST): number {
  const aligned = Math.floor(line / gridLines) * gridLines;
  return Math.max(0, aligned - (PREFIX_LINES_MAX - gridLines));
}

/** Cuts whole grids of lines, then of characters, from the beginning until the rest fits. */
function windowStart(document: Document, line: number, end: number, window: Window): number {
  const { prefixChars, gridLines, gridChars } = window;
  let startLine = windowStartLine(line, window);
  let start = document.offsetAt({ line: startLine, character: 0 });
  while (end - start > prefixChars && startLine + gridLines <= line) {
    startLine += gridLines;
    start = document.offsetAt({ line: startLine, character: 0 });
  }
  const excess = Math.max(0, end - start - prefixChars);
  return Math.min(end, start + Math.ceil(excess / gridChars) * gridChars);
}

/** A cut between the halves of a surrogate pair would send half a character. */
const afterPair = (text: string, at: number): number =>
  /[\udc00-\udfff]/.test(text.charAt(at)) && /[\ud800-\udbff]/.test(text.charAt(at - 1)) ? at + 1 : at;

/** The text of one line without its end. */
function lineAt(document: Document, text: string, line: number): string {
  const start = document.offsetAt({ line, character: 0 });
  const end = line + 1 < document.lineCount ? document.offsetAt({ line: line + 1, character: 0 }) : text.length;
  return text.slice(start, end).replace(/\r?\n$|\r$/, '');
}

/** The place, or null where the document has no such position (a request that overtook its change). */
export function placeOf(
  document: Document,
  position: Position,
  selected: SelectedCompletion | null,
  window: Window = WIDEST,
): Place | null {
  const { text } = document;
  const from = selected?.range.start ?? position;
  const to = selected?.range.end ?? position;
  if (![position, from, to].every((one) => one.line >= 0 && one.line < document.lineCount)) return null;
  if (from.line !== position.line || to.line !== position.line) return null;
  const line = lineAt(document, text, position.line);
  if ([position, from, to].some(({ character }) => character < 0 || character > line.length)) return null;
  const start = document.offsetAt(from);
  const end = document.offsetAt(to);
  const lastLine = Math.min(document.lineCount, position.line + SUFFIX_LINES_MAX);
  const suffixEnd = lastLine < document.lineCount ? document.offsetAt({ line: lastLine, character: 0 }) : text.length;
  const { uri, languageId, version } = document;
  return {
    uri,
    languageId,
    version,
    position,
    prefix:
      toLf(text.slice(afterPair(text, windowStart(document, from.line, start, window)), start)) +
      (selected?.text ?? ''),
    suffix: toLf(text.slice(end, afterPair(text, Math.min(suffixEnd, end + window.suffixChars)))),
    linePrefix: line.slice(0, from.character) + (selected?.text ?? ''),
    lineSuffix: line.slice(to.character),
    lineEnd: text.includes('\r\n') ? '\r\n' : '\n',
    selected,
  };
}
