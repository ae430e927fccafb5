/** Plain text tables for terminals. What a cell holds, others may have written: it stays one line, and is obeyed by no terminal. */
import { oneLine } from './terminal-text.ts';

/** Between two columns. */
export const GAP = '  ';

/** Columns padded to their widest cell, two spaces between; ends with a newline. */
export function formatTable(header: string[], rows: string[][]): string {
  return formatTallTable(
    header,
    rows.map((row) => row.map((cell) => [oneLine(cell)])),
  );
}

/** As formatTable, with cells of several lines. */
function formatTallTable(header: string[], rows: string[][][]): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.flatMap((row) => (row[column] ?? []).map(({ length }) => length))),
  );
  const line = (row: readonly string[]): string =>
    widths
      .map((width, column) => (row[column] ?? '').padEnd(width))
      .join(GAP)
      .trimEnd();
  const lines = rows.flatMap((row) => {
    const height = Math.max(...row.map((cell) => cell.length));
    return Array.from({ length: height }, (_, at) => line(row.map((cell) => cell[at] ?? '')));
  });
  return `${[line(header), widths.map((width) => '-'.repeat(width)).join(GAP), ...lines].join('\n')}\n`;
}

/** Lines of at most `width` characters, broken between words; a longer word has a line of its own. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** A last column that is narrower is no help to anybody. */
const LAST_COLUMNS_MIN = 24;

/** A table of at most `columns` columns, as far as its cells can be broken: lists at their commas, the last cell between words. */
export function formatNarrowTable(header: string[], cells: string[][], columns: number): string {
  const rows = cells.map((row) => row.map(oneLine));
  const last = header.length - 1;
  const listed = rows.map((row) => row.slice(0, last).map((cell) => cell.split(', ')));
  const used = header
    .slice(0, last)
    .map((title, column) =>
      Math.max(title.length, ...listed.flatMap((row) => (row[column] ?? []).map((c) => c.length))),
    )
    .reduce((sum, width) => sum + width + GAP.length, 0);
  const left = Math.max(LAST_COLUMNS_MIN, columns - used);
  const tall = rows.map((row, at) => [...(listed[at] ?? []), wrapped(row[last] ?? '', left)]);
  return formatTallTable(header, tall);
}
