/** The table of requests in the width of a terminal: step by step shorter, until it fits. */
import type { QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { formatTable, GAP } from '../table.ts';
import { oneLine } from '../terminal-text.ts';
import { requestColumns } from './request-rows.ts';

type Column = { title: string; cells: string[] };
type Step = (columns: Column[]) => Column[];

/** Below it a cell says nothing any more; then the table is wider than the terminal. */
const CELL_MIN = 8;
/** Of others' making, so of any length; cut last. */
const CUT_LAST = ['what', 'end', 'user'];

/** "01a1ff2a…0832" of a long id: when it was made, and what tells it from its neighbours. */
const shortId = (id: string): string => (id.length > 16 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);
/** "2026-11-21 17:32:22" of an instant. */
const toTheSecond = (instant: string): string => instant.replace('T', ' ').replace(/(?:\.\d+)?Z$/, '');

const change =
  (title: string, shorter: (cell: string) => string, newTitle = title): Step =>
  (columns) =>
    columns.map((one) => (one.title === title ? { title: newTitle, cells: one.cells.map(shorter) } : one));
const drop =
  (title: string): Step =>
  (columns) =>
    columns.filter((one) => one.title !== title);

/** In this order; what is lost is the least that one looks for. */
const STEPS: readonly Step[] = [
  change('time', toTheSecond, 'time (UTC)'),
  change('trace', shortId),
  change('request', shortId),
  change('latency', (cell) => cell.replace(/ \(.*\)$/, '')),
  change('time (UTC)', (cell) => cell.slice('2026-'.length)),
  ...['trace', 'session', 'key', 'from'].map(drop),
];

const widthOf = ({ title, cells }: Column): number =>
  cells.reduce((width, cell) => Math.max(width, cell.length), title.length);
const widthOfAll = (columns: readonly Column[]): number =>
  columns.reduce((sum, one) => sum + widthOf(one) + GAP.length, -GAP.length);

/** Takes from the widest of those that may be cut, until all fit or none can give more. */
function cut(whole: Column[], width: number): Column[] {
  for (let columns = whole; ; ) {
    const excess = widthOfAll(columns) - width;
    const candidates = columns.filter(({ title }) => CUT_LAST.includes(title));
    const [widest] = candidates.toSorted((a, b) => widthOf(b) - widthOf(a));
    if (excess <= 0 || widest === undefined || widthOf(widest) <= CELL_MIN) return columns;
    const next = Math.max(...candidates.filter((one) => one !== widest).map(widthOf));
    const target = Math.max(CELL_MIN, widthOf(widest) - excess, Math.min(widthOf(widest) - 1, next));
    columns = change(widest.title, (cell) => (cell.length > target ? `${cell.slice(0, target - 1)}…` : cell))(columns);
  }
}

/** `width` in columns. `isShortened`: not all is there; a request's whole id then takes the whole table, or JSON. */
export function fittedTable(rows: readonly QueryResponse[], width: number): { table: string; isShortened: boolean } {
  const whole = requestColumns(rows).map(([title, cellOf]) => ({
    title,
    cells: rows.map((row) => oneLine(cellOf(row))),
  }));
  let columns = whole;
  for (const step of STEPS) if (widthOfAll(columns) > width) columns = step(columns);
  columns = cut(columns, width);
  const table = formatTable(
    columns.map(({ title }) => title),
    rows.map((_, at) => columns.map(({ cells }) => cells[at] ?? '')),
  );
  return { table, isShortened: columns !== whole };
}
