// Which metrics a PromQL expression reads, and by which labels. promtool parses; this only finds names, for expressions that
// promtool took.

const WORDS = new Set(
  'and or unless by without on ignoring group_left group_right offset bool start end inf nan'.split(' '),
);

export type MetricUse = { name: string; labels: string[] };

/** Metrics in the order in which they stand; functions, label lists and durations are passed over. */
export function metricsOf(expr: string): MetricUse[] {
  // Strings keep their length, so that what stands in them is not taken for names.
  const bare = expr.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, (text) => `"${'_'.repeat(text.length - 2)}"`);
  const flat = bare
    .replace(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, ' ')
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\boffset\s+-?[\w.]+/g, ' ');
  const uses: MetricUse[] = [];
  for (const match of flat.matchAll(/(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?/g)) {
    const [, name = '', behind = ''] = match;
    if (behind === '(' || WORDS.has(name.toLowerCase())) continue;
    const labels = [...behind.matchAll(/([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)/g)].map((label) => label[1] as string);
    uses.push({ name, labels });
  }
  return uses;
}

/** Labels by which an expression groups or matches. */
export function groupingOf(expr: string): string[] {
  return [...expr.matchAll(/\b(?:by|on|ignoring)\s*\(([^)]*)\)/g)].flatMap((match) =>
    (match[1] as string).split(',').flatMap((label) => (label.trim() === '' ? [] : [label.trim()])),
  );
}
