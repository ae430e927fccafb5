/**
 * What the model said at a place, found again when the user types what it said. An entry is known by a hash of the lines
 * around the place, and by further hashes without the first lines, so that it is found too when typing has gone down a
 * line or three.
 */
import type { Clock } from './clock.ts';
import {
  CACHE_AGE_MS_MAX,
  CACHE_DISTRUSTED_CHARS,
  CACHE_ENTRIES_MAX,
  CACHE_LOOK_BACK_CHARS,
  CACHE_PREFIX_LINES,
  CACHE_SUFFIX_LINES,
  CACHE_TRIMMED_LINES,
} from './limits.ts';
import { TextHash } from './text-hash.ts';

/** What the text of a suggestion depends on. */
export type CacheKey = { prefix: string; suffix: string; uri: string; model: string };

/** `scoped`: the mesh has seen to it that the text ends with its scope. */
export type CachedText = { text: string; cut: boolean; scoped: boolean };

type Entry = { id: string; singleLine: boolean; texts: readonly CachedText[]; keys: readonly string[]; madeAt: number };

export type CacheHit = {
  id: string;
  texts: CachedText[];
  /** Since the place of the entry. */
  typed: string;
  /** Only one line was asked for. */
  singleLine: boolean;
};

/** Offset at which the last `count` lines of `text` before `end` begin. */
function lastLines(text: string, end: number, count: number): number {
  let at = end;
  for (let lines = 0; at > 0; at--) {
    if (text.charCodeAt(at - 1) !== 10) continue;
    lines++;
    if (lines >= count) break;
  }
  return at;
}

function firstLines(text: string, count: number): string {
  let at = -1;
  for (let lines = 0; lines < count; lines++) {
    at = text.indexOf('\n', at + 1);
    if (at === -1) return text;
  }
  return text.slice(0, at);
}

const tailOf = ({ suffix, uri, model }: CacheKey): string =>
  new TextHash().add(`${uri}\0${model}\0`).add(firstLines(suffix, CACHE_SUFFIX_LINES)).value;

export class SuggestionCache {
  readonly #clock: Clock;
  /** In order of use. */
  readonly #entries = new Map<string, Entry>();
  readonly #byKey = new Map<string, Entry>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  put(id: string, key: CacheKey, texts: readonly CachedText[], singleLine: boolean): void {
    if (texts.every(({ text }) => text === '')) return;
    const tail = tailOf(key);
    const { prefix } = key;
    const keys = Array.from({ length: CACHE_TRIMMED_LINES + 1 }, (_, trimmed) => {
      const start = lastLines(prefix, prefix.length, CACHE_PREFIX_LINES - trimmed);
      return `${new TextHash().add(prefix, start).value}:${tail}`;
    });
    const entry: Entry = { id, singleLine, texts, keys, madeAt: this.#clock.now() };
    this.#entries.set(id, entry);
    for (const one of keys) this.#byKey.set(one, entry);
    const oldest = this.#entries.values().next().value;
    if (this.#entries.size > CACHE_ENTRIES_MAX && oldest) this.#drop(oldest);
  }

  /** The latest place behind which everything up to `key` is what an entry said, with what it says next. */
  find(key: CacheKey): CacheHit | null {
    const { prefix } = key;
    const tail = tailOf(key);
    const first = Math.max(0, prefix.length - CACHE_LOOK_BACK_CHARS);
    const start = lastLines(prefix, prefix.length, CACHE_PREFIX_LINES);
    // One pass from each start that an entry may have used: from there, the hash of every later end is a step further.
    for (const [hash, end] of this.#hashes(prefix, start, first)) {
      const entry = this.#byKey.get(`${hash}:${tail}`);
      const hit = entry && this.#usable(entry, prefix.slice(end));
      if (hit) return hit;
    }
    return null;
  }

  clear(): void {
    this.#entries.clear();
    this.#byKey.clear();
  }

  /** Hashes of prefix[start..end] for each end from the last to `first`. */
  *#hashes(prefix: string, start: number, first: number): Generator<[string, number]> {
    const found: [string, number][] = [];
    const hash = new TextHash().add(prefix, start, Math.max(start, first));
    for (let end = Math.max(start, first); end <= prefix.length; end++) {
      found.push([hash.value, end]);
      hash.add(prefix, end, end + 1);
    }
    yield* found.reverse();
  }

  #usable(entry: Entry, typed: string): CacheHit | null {
    if (this.#clock.now() - entry.madeAt > CACHE_AGE_MS_MAX) {
      this.#drop(entry);
      return null;
    }
    const texts = entry.texts
      .filter(({ text }) => text.length > typed.length && text.startsWith(typed))
      .map(({ text, cut, scoped }) => ({ text: text.slice(typed.length), cut, scoped }))
      .filter(({ text, cut }) => typed === '' || !cut || text.length >= CACHE_DISTRUSTED_CHARS);
    if (texts.length === 0) return null;
    this.#entries.delete(entry.id);
    this.#entries.set(entry.id, entry);
    return { id: entry.id, texts, typed, singleLine: entry.singleLine };
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.id);
    for (const key of entry.keys) if (this.#byKey.get(key) === entry) this.#byKey.delete(key);
  }
}
