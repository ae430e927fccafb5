/** How alike two pieces of code are, by their lines: quick, and deaf to their order. */

export type LineBag = { counts: ReadonlyMap<string, number>; total: number };

/** Lines without their indentation; blank ones say nothing. */
export function bagOf(text: string): LineBag {
  const counts = new Map<string, number>();
  let total = 0;
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '') continue;
    counts.set(line, (counts.get(line) ?? 0) + 1);
    total++;
  }
  return { counts, total };
}

/** 2 * common / (a + b), 0..1; two empty ones are alike. */
export function similarity(a: LineBag, b: LineBag): number {
  if (a.total + b.total === 0) return 1;
  let common = 0;
  for (const [line, count] of a.counts) common += Math.min(count, b.counts.get(line) ?? 0);
  return (2 * common) / (a.total + b.total);
}
