/** Levenshtein distance within a bound: a band of the matrix, so that long texts cost their length times the bound. */

/** Whether `a` becomes `b` by at most `most` single-unit edits. */
export function isWithinEdits(a: string, b: string, most: number): boolean {
  if (Math.abs(a.length - b.length) > most) return false;
  if (most === 0) return a === b;
  const far = most + 1;
  let row = Array.from({ length: b.length + 2 }, (_, j) => Math.min(j, far));
  let next = new Array<number>(b.length + 2).fill(far);
  for (let i = 1; i <= a.length; i++) {
    const first = Math.max(1, i - most);
    const last = Math.min(b.length, i + most);
    // The rows are used in turn: what borders on the band must not be a value of the row before the last.
    next[first - 1] = i <= most ? i : far;
    next[last + 1] = far;
    let least = next[first - 1] ?? far;
    for (let j = first; j <= last; j++) {
      const same = a.charCodeAt(i - 1) === b.charCodeAt(j - 1) ? 0 : 1;
      const value = Math.min((row[j - 1] ?? far) + same, (row[j] ?? far) + 1, (next[j - 1] ?? far) + 1, far);
      next[j] = value;
      if (value < least) least = value;
    }
    if (least >= far) return false;
    [row, next] = [next, row];
  }
  return (row[b.length] ?? far) <= most;
}
