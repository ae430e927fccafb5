/** How near a fill comes to what was there. docs/evaluation.md defines each figure. */
import type { Reading, Span, Syntax } from './syntax.ts';

export type Score = {
  /** The same text, space at both ends aside. */
  exact: boolean;
  /** 1 - distance / length of the longer text, 0..1; space at both ends aside. */
  editSimilarity: number;
  /** The file with the fill has no more syntax errors than it had. */
  parses: boolean;
  /** The same for a fill of nothing: what `parses` is worth here. */
  parsesEmpty: boolean;
  /** The same identifiers in the same order. */
  identifierExact: boolean;
  /** Of the sets of identifiers, 0..1. */
  identifierPrecision: number;
  identifierRecall: number;
  identifierF1: number;
};

/** Levenshtein's distance in UTF-16 units. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

export function editSimilarity(a: string, b: string): number {
  const longer = Math.max(a.length, b.length);
  return longer === 0 ? 1 : 1 - editDistance(a, b) / longer;
}

/** Identifiers that lie in [start, end) of a text, in order. */
function identifiersIn(text: string, { tokens }: Reading, start: number, end: number): string[] {
  return tokens
    .filter((token) => token.isIdentifier && token.start >= start && token.end <= end)
    .map((token) => text.slice(token.start, token.end));
}

export function identifierMatch(wanted: readonly string[], got: readonly string[]) {
  const wantedSet = new Set(wanted);
  const gotSet = new Set(got);
  const common = [...gotSet].filter((name) => wantedSet.has(name)).length;
  const share = (of: number): number => (of === 0 ? (wantedSet.size + gotSet.size === 0 ? 1 : 0) : common / of);
  const [precision, recall] = [share(gotSet.size), share(wantedSet.size)];
  return {
    identifierExact: wanted.length === got.length && wanted.every((name, at) => name === got[at]),
    identifierPrecision: precision,
    identifierRecall: recall,
    identifierF1: precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall),
  };
}

type Hole = Span & { text: string; language: string };

/** `whole`: the reading of the text as it was. */
export async function score(hole: Hole, fill: string, whole: Reading, syntax: Syntax): Promise<Score> {
  const { text, language, start, end } = hole;
  const wanted = text.slice(start, end);
  const withFill = (middle: string): string => text.slice(0, start) + middle + text.slice(end);
  const filled = withFill(fill);
  const reading = await syntax.readAround(filled, language, { start, end: start + fill.length });
  const empty = await syntax.readAround(withFill(''), language, { start, end: start });
  return {
    exact: fill.trim() === wanted.trim(),
    editSimilarity: editSimilarity(fill.trim(), wanted.trim()),
    parses: reading.errors <= whole.errors,
    parsesEmpty: empty.errors <= whole.errors,
    ...identifierMatch(
      identifiersIn(text, whole, start, end),
      identifiersIn(filled, reading, start, start + fill.length),
    ),
  };
}
