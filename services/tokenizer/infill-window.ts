// Which part of a long prefix is sent: its end, from a line whose number is a multiple of the grid. As long as typing does
// not pass a grid line, the window starts at the same place and the prefix cache keeps its blocks.
import {
  PREFIX_CUTS_PER_WINDOW,
  PREFIX_GRID_LINES_MAX,
  PREFIX_GRID_LINES_MIN,
  PREFIX_TOKENS_PER_GRID_LINE,
} from './limits.ts';
import { bytesOfId, type Vocabulary } from './vocabulary.ts';

type WindowInput = {
  prefix: string;
  /** Of the whole prefix. */
  ids: Uint32Array;
  /** Tokens that the window may have; fewer than `ids`. */
  max: number;
  vocabulary: Vocabulary;
  encode(text: string): Uint32Array;
};

/** The grid of a window of `max` tokens: a power of two, so that a finer grid has all lines of a coarser one. */
function gridLines(max: number): number {
  const lines = 2 ** Math.floor(Math.log2(Math.max(1, max / PREFIX_TOKENS_PER_GRID_LINE)));
  return Math.min(PREFIX_GRID_LINES_MAX, Math.max(PREFIX_GRID_LINES_MIN, lines));
}

/** Where every `grid`-th line begins, in UTF-16 units, without the first. */
function gridStarts(prefix: string, grid: number): number[] {
  const starts: number[] = [];
  let line = 0;
  for (let at = prefix.indexOf('\n'); at >= 0; at = prefix.indexOf('\n', at + 1)) {
    line += 1;
    if (line % grid === 0) starts.push(at + 1);
  }
  return starts;
}

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80;

/** The last ids, at most `max`, from a whole character on: for lines so long that no grid line is near enough. Cut in steps too. */
function lastIds({ ids, max, vocabulary }: WindowInput): Uint32Array {
  const step = Math.max(1, Math.floor(max / PREFIX_CUTS_PER_WINDOW));
  let from = Math.ceil((ids.length - max) / step) * step;
  while (from < ids.length && isContinuation(bytesOfId(vocabulary, ids[from]!)[0])) from += 1;
  return ids.subarray(from);
}

/** Ids of the window: at most `max`. */
export function chooseWindow(input: WindowInput): Uint32Array {
  const { prefix, ids, max, encode } = input;
  const starts = gridStarts(prefix, gridLines(max));
  // Tokens spread unevenly over the text; the estimate only saves encoding windows that are far too long.
  const estimate = prefix.length * (1 - (2 * max) / ids.length);
  for (const start of starts) {
    if (start < estimate || start >= prefix.length) continue;
    const window = encode(prefix.slice(start));
    if (window.length <= max) return window;
  }
  return lastIds(input);
}
