/** Holes in sources: what a model shall fill in, chosen by a seed. */
import type { Random } from './random.ts';
import { type Source, sha256 } from './sources.ts';
import type { Reading, Span, Token } from './syntax.ts';

export const KINDS = ['line', 'span', 'block'] as const;
export type Kind = (typeof KINDS)[number];

/** Text [start, end) of a source is taken out; in UTF-16 units. */
export type Hole = {
  /** Of the file's text, the place and the kind: the same hole has the same id in every run. */
  id: string;
  kind: Kind;
  source: Source;
  start: number;
  end: number;
};

/** Shorter fills are mostly brackets, which say nothing of a model. */
const NON_SPACE_MIN = 8;
const BLOCK_LINES_MIN = 2;
const BLOCK_LINES_MAX = 10;
/** Longer lines were made by a program, and a line has as many spans as the square of its tokens. */
const LINE_CHARACTERS_MAX = 400;

/** All places of a kind in a text. Each holds an identifier and at least eight characters that are no space. */
export function placesIn(text: string, reading: Reading, kind: Kind): Span[] {
  const places =
    kind === 'block' ? reading.blocks.filter((block) => isBlock(text, block)) : inLines(text, reading, kind);
  const identifiers = reading.tokens.filter((token) => token.isIdentifier);
  return places.filter(
    (place) =>
      text.slice(place.start, place.end).replaceAll(/\s/g, '').length >= NON_SPACE_MIN &&
      holdsOneOf(identifiers, place),
  );
}

/** `tokens` are in order and do not overlap. */
function holdsOneOf(tokens: readonly Token[], { start, end }: Span): boolean {
  let [low, high] = [0, tokens.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tokens[middle] as Token).start < start) low = middle + 1;
    else high = middle;
  }
  return (tokens[low]?.end ?? Number.POSITIVE_INFINITY) <= end;
}

function isBlock(text: string, { start, end }: Span): boolean {
  const lines = text.slice(start, end).split('\n');
  const isLong = lines.some(({ length }) => length > LINE_CHARACTERS_MAX);
  return lines.length >= BLOCK_LINES_MIN && lines.length <= BLOCK_LINES_MAX && !isLong;
}

/** line: from a token's beginning to the last one's end. span: from one token to itself or another, without the first and the last. */
function inLines(text: string, { tokens }: Reading, kind: Kind): Span[] {
  return [...byLine(text, tokens).values()].flatMap((line) => {
    const last = line.at(-1) as Token;
    if (kind === 'line') return line.map(({ start }) => ({ start, end: last.end }));
    const inner = line.slice(1, -1);
    return inner.flatMap(({ start }, at) => inner.slice(at).map(({ end }) => ({ start, end })));
  });
}

/** Tokens by line, for lines that no token goes beyond and that are not too long. */
function byLine(text: string, tokens: readonly Token[]): Map<number, Token[]> {
  const lines = new Map<number, Token[]>();
  const left = new Set<number>();
  let at = 0;
  let end = -1; // of the line at `at`
  for (const token of tokens) {
    if (token.start > end) {
      at = text.lastIndexOf('\n', token.start) + 1;
      end = text.indexOf('\n', token.start);
      if (end < 0) end = text.length;
      if (end - at > LINE_CHARACTERS_MAX) left.add(at);
    }
    if (token.end > end) left.add(at).add(text.lastIndexOf('\n', token.end - 1) + 1);
    const line = lines.get(at);
    if (line) line.push(token);
    else lines.set(at, [token]);
  }
  for (const line of left) lines.delete(line);
  return lines;
}

type Read = { source: Source; reading: Reading };

/**
 * `count` holes, or fewer where there are not so many places. Languages take turns; within one the file is drawn evenly, then the
 * line (or block), then for lines with even chance the whole line or its rest from a token on. No line and no block is drawn twice,
 * but a block and one that it holds may both be.
 */
export function cutHoles(files: readonly Read[], kind: Kind, count: number, random: Random): Hole[] {
  const pools = poolsOf(files, kind);
  const holes: Hole[] = [];
  while (holes.length < count && pools.length > 0) {
    const pool = pools[holes.length % pools.length] as Pool;
    const at = random.below(pool.length);
    const { source, groups } = pool[at] as Candidates;
    const [places] = groups.splice(random.below(groups.length), 1) as [Span[]];
    const place = draw(places, kind, random);
    const id = sha256(`${source.sha256} ${kind} ${place.start} ${place.end}`).slice(0, 16);
    holes.push({ id, kind, source, ...place });
    if (groups.length === 0) pool.splice(at, 1);
    if (pool.length === 0) pools.splice(pools.indexOf(pool), 1);
  }
  return holes;
}

function draw(places: readonly Span[], kind: Kind, random: Random): Span {
  const whole = kind === 'line' && random.next() < 0.5;
  return places[whole ? 0 : random.below(places.length)] as Span;
}

/** Places of one file that lie in the same line, or blocks one by one. */
type Candidates = { source: Source; groups: Span[][] };
type Pool = Candidates[];

function poolsOf(files: readonly Read[], kind: Kind): Pool[] {
  const pools = new Map<string, Pool>();
  for (const { source, reading } of files) {
    const groups = new Map<number, Span[]>();
    for (const place of placesIn(source.text, reading, kind)) {
      const at = kind === 'block' ? place.start : source.text.lastIndexOf('\n', place.start - 1);
      const group = groups.get(at);
      if (group) group.push(place);
      else groups.set(at, [place]);
    }
    if (groups.size === 0) continue;
    pools.set(source.language, [...(pools.get(source.language) ?? []), { source, groups: [...groups.values()] }]);
  }
  return [...pools.keys()].sort().map((language) => pools.get(language) as Pool);
}

/** Lines that are sent, the hole's own counted on both sides. */
export type Window = { before: number; after: number };

/** As the language server does: what an editor would send. */
export const EDITOR_WINDOW: Window = { before: 255, after: 64 };

/** What is sent of the text around a hole. */
export function around({ source: { text }, start, end }: Hole, window: Window): { prefix: string; suffix: string } {
  const prefix = text.slice(0, start).split('\n').slice(-window.before).join('\n');
  return { prefix, suffix: text.slice(end).split('\n').slice(0, window.after).join('\n') };
}
