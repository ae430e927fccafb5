/** Holes in sources: what a model shall fill in, chosen by a seed. */
import type { Random } from './random.ts';
import { type Source, sha256 } from './sources.ts';
import type { Block, Reading, Token } from './syntax.ts';

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

export type Place = { start: number; end: number };

/** All places of a kind in a text. Each holds an identifier and at least eight characters that are no space. */
export function placesIn(text: string, reading: Reading, kind: Kind): Place[] {
  const places =
    kind === 'block' ? reading.blocks.filter((block) => isBlock(text, block)) : inLines(text, reading, kind);
  const identifiers = reading.tokens.filter((token) => token.isIdentifier);
  return places.filter(
    ({ start, end }) =>
      text.slice(start, end).replaceAll(/\s/g, '').length >= NON_SPACE_MIN &&
      identifiers.some((token) => token.start >= start && token.end <= end),
  );
}

function isBlock(text: string, { start, end }: Block): boolean {
  const lines = text.slice(start, end).split('\n').length;
  return lines >= BLOCK_LINES_MIN && lines <= BLOCK_LINES_MAX;
}

/** line: from the beginning of a token to the line's end. span: from a token's beginning to a later one's end, with code behind it. */
function inLines(text: string, { tokens }: Reading, kind: Kind): Place[] {
  return [...byLine(text, tokens).values()].flatMap((line) => {
    const last = line.at(-1) as Token;
    if (kind === 'line') return line.map(({ start }) => ({ start, end: last.end }));
    const inner = line.slice(1, -1);
    return inner.flatMap(({ start }, at) => inner.slice(at).map(({ end }) => ({ start, end })));
  });
}

/** Tokens of one line, for lines that no token goes beyond. */
function byLine(text: string, tokens: readonly Token[]): Map<number, Token[]> {
  const lines = new Map<number, Token[]>();
  const broken = new Set<number>();
  const startOf = (offset: number): number => text.lastIndexOf('\n', offset - 1) + 1;
  for (const token of tokens) {
    if (text.slice(token.start, token.end).trim() === '') continue;
    const at = startOf(token.start);
    const until = startOf(token.end);
    if (until !== at) {
      broken.add(at);
      broken.add(until);
    } else lines.set(at, [...(lines.get(at) ?? []), token]);
  }
  for (const at of broken) lines.delete(at);
  return lines;
}

type Read = { source: Source; reading: Reading };

/**
 * `count` holes, or fewer where there are not so many places. Languages take turns; within one the file is drawn evenly, then the
 * line (or block), then for lines with even chance the whole line or its rest from a token on. No line is drawn twice.
 */
export function cutHoles(files: readonly Read[], kind: Kind, count: number, random: Random): Hole[] {
  const pools = poolsOf(files, kind);
  const holes: Hole[] = [];
  while (holes.length < count && pools.length > 0) {
    const pool = pools[holes.length % pools.length] as Pool;
    const at = random.below(pool.length);
    const { source, groups } = pool[at] as Candidates;
    const [places] = groups.splice(random.below(groups.length), 1) as [Place[]];
    const place = draw(places, kind, random);
    const id = sha256(`${source.sha256} ${kind} ${place.start} ${place.end}`).slice(0, 16);
    holes.push({ id, kind, source, ...place });
    if (groups.length === 0) pool.splice(at, 1);
    if (pool.length === 0) pools.splice(pools.indexOf(pool), 1);
  }
  return holes;
}

function draw(places: readonly Place[], kind: Kind, random: Random): Place {
  const whole = kind === 'line' && random.next() < 0.5;
  return places[whole ? 0 : random.below(places.length)] as Place;
}

/** Places of one file that lie in the same line, or blocks one by one. */
type Candidates = { source: Source; groups: Place[][] };
type Pool = Candidates[];

function poolsOf(files: readonly Read[], kind: Kind): Pool[] {
  const pools = new Map<string, Pool>();
  for (const { source, reading } of files) {
    const groups = new Map<number, Place[]>();
    for (const place of placesIn(source.text, reading, kind)) {
      const at = kind === 'block' ? place.start : source.text.lastIndexOf('\n', place.start - 1);
      groups.set(at, [...(groups.get(at) ?? []), place]);
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
