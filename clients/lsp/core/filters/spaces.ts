/** Filters 6, 7 and 11: trailing space, texts without a word, indentation. */
import {
  type Filter,
  hasWord,
  indentOf,
  indentWidth,
  isBlank,
  linesAbove,
  linesBelow,
  opensBlock,
  type Surroundings,
  withText,
} from './draft.ts';

/** Lines of the file that tell how it is indented. */
const SAMPLE_LINES = 200;
const UNITS = [2, 3, 4, 8];

/** A line of nothing but space is replaced from its beginning: what the editor indented may not be what is meant. */
export const trimSpace: Filter = (draft, { around }) => {
  const text = isBlank(around.lineSuffix) ? draft.text.trimEnd() : draft.text;
  if (text === '' || around.linePrefix === '' || !isBlank(around.linePrefix) || draft.coverBefore > 0)
    return withText(draft, text);
  return { ...draft, text: around.linePrefix + text, coverBefore: around.linePrefix.length };
};

export const dropWithoutWord: Filter = (draft) => (hasWord(draft.text) ? draft : null);

export type Indentation = { tabs: boolean; unit: number };

/** How the lines around the cursor are indented; null where none is. */
export function indentationOf(around: Surroundings): Indentation | null {
  const lines = [...linesAbove(around, SAMPLE_LINES), ...linesBelow(around, SAMPLE_LINES)].filter((l) => !isBlank(l));
  const indents = lines.map(indentOf).filter((indent) => indent !== '');
  if (indents.length === 0) return null;
  const tabs = indents.filter((indent) => indent.startsWith('\t')).length;
  if (tabs * 2 > indents.length) return { tabs: true, unit: 4 };
  const widths = indents.filter((indent) => !indent.includes('\t')).map((indent) => indent.length);
  const fits = UNITS.filter((unit) => widths.filter((width) => width % unit === 0).length >= widths.length * 0.9);
  return { tabs: false, unit: fits.at(-1) ?? Math.min(...widths) };
}

/** The indentation of the lines of a text, in the file's tabs or spaces. */
function convert(line: string, { tabs, unit }: Indentation, spacesPerLevel: number): string {
  const indent = indentOf(line);
  if (indent === '') return line;
  const rest = line.slice(indent.length);
  if (!tabs) return indent.includes('\t') ? indent.replaceAll('\t', ' '.repeat(unit)) + rest : line;
  if (!indent.includes(' ')) return line;
  const width = indentWidth(indent, spacesPerLevel);
  return '\t'.repeat(Math.floor(width / spacesPerLevel)) + ' '.repeat(width % spacesPerLevel) + rest;
}

const levelOf = (lines: readonly string[]): number =>
  Math.min(8, ...lines.map((line) => indentWidth(line)).filter((width) => width > 1)) % 8 || 4;

/** A text that indents by another unit than the file, seen where a block opens: its lines are moved to the file's. */
function rescale(lines: readonly string[], base: number, unit: number): string[] {
  const opener = lines.findIndex((line, i) => opensBlock(line) && i + 1 < lines.length && !isBlank(lines[i + 1]!));
  if (opener === -1) return [...lines];
  const from = opener === 0 ? base : indentWidth(lines[opener]!);
  const step = indentWidth(lines[opener + 1]!) - from;
  const steps = lines
    .slice(1)
    .filter((line) => !isBlank(line))
    .map((line) => indentWidth(line) - base);
  if (step <= 1 || step === unit || steps.some((one) => one < 0 || one % step !== 0)) return [...lines];
  return lines.map((line, i) => {
    if (i === 0 || isBlank(line)) return line;
    const width = base + ((indentWidth(line) - base) / step) * unit;
    return ' '.repeat(width) + line.slice(indentOf(line).length);
  });
}

/** How far the first line should be indented: as its own later lines, or as the code above. */
function expectedIndent(lines: readonly string[], around: Surroundings, unit: number): number {
  const later = lines
    .slice(1)
    .filter((line) => !isBlank(line))
    .map((line) => indentWidth(line));
  const above = linesAbove(around, SAMPLE_LINES).find((line) => !isBlank(line));
  const fromAbove = above === undefined ? 0 : indentWidth(above) + (opensBlock(above) ? unit : 0);
  return later.length === 0 || opensBlock(lines[0]!) ? fromAbove : Math.max(fromAbove, Math.min(...later));
}

export const normaliseIndentation: Filter = (draft, { around }) => {
  const style = indentationOf(around);
  const first = around.linePrefix.slice(0, around.linePrefix.length - draft.coverBefore);
  const lines = draft.text.split('\n');
  const own =
    style === null ? lines : lines.map((line, i) => (i === 0 && first !== '' ? line : convertWith(line, lines, style)));
  const unit = style?.unit ?? 4;
  const base = indentWidth(isBlank(first) ? own[0]! : first);
  const scaled = style === null || style.tabs ? [...own] : rescale(own, base, unit);
  if (isBlank(first) && draft.coverBefore > 0) scaled[0] = relativeToCursor(scaled, around, unit);
  return withText(draft, scaled.join('\n'));
};

const convertWith = (line: string, lines: readonly string[], style: Indentation): string =>
  convert(line, style, levelOf(lines));

/** The model may indent a line that the editor has indented already: its own share then goes. */
function relativeToCursor(lines: readonly string[], around: Surroundings, unit: number): string {
  const [first = ''] = lines;
  const wanted = Math.max(expectedIndent(lines, around, unit), indentWidth(around.linePrefix));
  const indent = indentOf(first);
  if (indentWidth(first) <= wanted) return first;
  const kept = indent.includes('\t') ? '\t'.repeat(Math.floor(wanted / 4)) : ' '.repeat(wanted);
  return kept + first.slice(indent.length);
}
