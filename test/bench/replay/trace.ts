// A trace: a piece of a real file with parts of it missing, and the order in which somebody types them again. What is typed, and
// how long each key waits, follows from the seed and from the place in the text alone: an accepted suggestion leaves out keys and
// changes none of the others.
import { type Random, seeded } from './random.ts';
import type { Source } from './sources.ts';

/** One missing part. `offset`: in the whole text. */
export type Passage = { offset: number; text: string; how: 'typed' | 'pasted' };

export type Trace = {
  name: string;
  languageId: string;
  path: string;
  source: Pick<Source, 'licence' | 'from' | 'hash'>;
  seed: string;
  /** With every passage in it. */
  text: string;
  /** In the order in which they are written. */
  passages: Passage[];
  /** Median milliseconds between two letters of a word. */
  paceMs: number;
  /** What lies open beside it: the rest of the file. */
  beside: string;
};

/** About 1,000 tokens of quern-mini, with what is sent of the file beside it. */
export const EXCERPT_CHARS = 2_300;
const EXCERPT_LINES_MAX = 90;
const TYPED_CHARS = 280;
const PASSAGES_MAX = 7;
/** A good, a middling and a slow typist's. */
const PACES_MS = [110, 150, 200] as const;

/** Whole lines from one behind a blank line on, in at most EXCERPT_CHARS. */
function excerptOf(text: string, random: Random): string {
  const lines = text.split('\n');
  const starts = lines.flatMap((line, index) => (line.trim() === '' && index + 1 < lines.length ? [index + 1] : []));
  const usable = starts.filter((start) => lines.slice(start).join('\n').length >= EXCERPT_CHARS);
  const first = usable.length === 0 ? 0 : random.pick(usable);
  const taken: string[] = [];
  let chars = 0;
  for (const line of lines.slice(first, first + EXCERPT_LINES_MAX)) {
    if (chars + line.length + 1 > EXCERPT_CHARS) break;
    taken.push(line);
    chars += line.length + 1;
  }
  return `${taken.join('\n')}\n`;
}

type Line = { start: number; text: string };

function linesOf(text: string): Line[] {
  let start = 0;
  return text.split('\n').map((line) => {
    const found = { start, text: line };
    start += line.length + 1;
    return found;
  });
}

/** Whole lines behind the end of the one before them, or what is left of a line from a word on. */
function passageAt(lines: readonly Line[], index: number, random: Random): Passage | null {
  const before = lines[index - 1];
  const line = lines[index];
  if (!before || !line || line.text.trim().length < 4) return null;
  const what = random.next();
  if (what < 0.35) {
    const words = [...line.text.matchAll(/[A-Za-z_]\w*/g)].map((match) => match.index);
    const from = words.length > 1 ? random.pick(words.slice(1)) : 0;
    if (from === 0) return null;
    return { offset: line.start + from, text: line.text.slice(from), how: 'typed' };
  }
  const count = 1 + random.below(5);
  const texts = lines.slice(index, index + count).map(({ text }) => text);
  const offset = before.start + before.text.length;
  return { offset, text: `\n${texts.join('\n')}`, how: what > 0.92 ? 'pasted' : 'typed' };
}

function choosePassages(text: string, random: Random): Passage[] {
  const lines = linesOf(text);
  const chosen: Passage[] = [];
  let typed = 0;
  for (let tries = 0; tries < 200 && typed < TYPED_CHARS && chosen.length < PASSAGES_MAX; tries++) {
    const passage = passageAt(lines, 1 + random.below(lines.length - 2), random);
    if (!passage) continue;
    const end = passage.offset + passage.text.length;
    const isApart = chosen.every(
      (other) => end + 1 < other.offset || other.offset + other.text.length + 1 < passage.offset,
    );
    if (!isApart || end >= text.length) continue;
    chosen.push(passage);
    if (passage.how === 'typed') typed += passage.text.length;
  }
  chosen.sort((a, b) => a.offset - b.offset);
  // Mostly from the top down; now and then somebody goes back.
  for (let at = 1; at < chosen.length; at++) {
    if (random.next() < 0.2) [chosen[at - 1], chosen[at]] = [chosen[at]!, chosen[at - 1]!];
  }
  return chosen;
}

export function makeTrace(source: Source, index: number, seed: string): Trace {
  const ownSeed = `${seed}:${index}:${source.path}`;
  const random = seeded(ownSeed);
  const text = excerptOf(source.text, random);
  const { languageId, path, licence, from, hash } = source;
  return {
    name: `${index} ${path}`,
    ...{ languageId, path, source: { licence, from, hash }, seed: ownSeed, text },
    passages: choosePassages(text, random),
    paceMs: PACES_MS[index % PACES_MS.length]!,
    beside: source.text.slice(0, 2_000),
  };
}
