// Walking JSON values that others wrote, to a bounded depth.

export type JsonObject = { [key: string]: unknown };

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Levels of arrays and objects; stops counting at `most + 1`. */
export function depthOf(value: unknown, most: number): number {
  if (typeof value !== 'object' || value === null) return 0;
  if (most <= 0) return 1;
  let deepest = 0;
  for (const inner of Object.values(value)) deepest = Math.max(deepest, depthOf(inner, most - 1));
  return deepest + 1;
}

/** A copy with every string replaced; keys, numbers and structure stay. The depth must have been checked. */
export function mapStrings(value: unknown, replace: (text: string) => string): unknown {
  if (typeof value === 'string') return replace(value);
  if (Array.isArray(value)) return value.map((inner) => mapStrings(inner, replace));
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, mapStrings(inner, replace)]));
}

/** All strings and all keys. The depth must have been checked. */
export function* textsOf(value: unknown): Generator<{ text: string; isKey: boolean }> {
  if (typeof value === 'string') yield { text: value, isKey: false };
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    if (!Array.isArray(value)) yield { text: key, isKey: true };
    yield* textsOf(inner);
  }
}
