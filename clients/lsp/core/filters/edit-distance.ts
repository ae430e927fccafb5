/** Levenshtein distance within a bound: a band of the matrix, so that long texts cost their length times the bound. */

/** Whether `a` becomes `b` by at most `most` single-unit edits. */
export function isWithinEdits(a: string, b: string, most: number): boolean {
  if (Math.abs(a.length - b.length) > most) return false;
  if (most === 0) return a === b;
  const far = most + 1;
  let row = Array.from({ length: b.length + 1 }, (_, j) => Math.min(j, far));
  for (let i = 1; i <= a.length; i++) {
    const next = new Array<number>(b.length + 1).fill(far);
    if (i <= most) next[0] = i;
    let least = next[0] ?? far;
    for (let j = Math.max(1, i - most); j <= Math.min(b.length, i + most); j++) {
      const same = a.charCodeAt(i - 1) === b.charCodeAt(j - 1) ? 0 : 1;
      const value = Math.min((row[j - 1] ?? far) + same, (row[j] ?? far) + 1, (next[j - 1] ?? far) + 1, far);
      next[j] = value;
      if (value < least) least = value;
    }
    if (least >= far) return false;
    row = next;
  }
  return (row[b.length] ?? far) <= most;
}
