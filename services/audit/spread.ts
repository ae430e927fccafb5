// A bounded sample of a list, evenly spread.

/** At most `max` of the items in their order; the last one is always among them. */
export function evenly<T>(items: readonly T[], max: number): T[] {
  if (items.length <= max) return [...items];
  const last = items.length - 1;
  return Array.from({ length: max }, (_, i) => items[Math.round((i * last) / (max - 1 || 1))] as T);
}
