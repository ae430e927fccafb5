/**
 * What became of suggestions: seen, accepted, accepted in part, dismissed, and how much of them is still there later.
 * Numbers and names only, never text.
 */

import type { Clock } from './clock.ts';
import type { Answer } from './completer.ts';
import type { Document, Documents, Edit } from './documents.ts';
import { KEPT_AFTER_MS, KEPT_DRIFT_CHARS_MAX, SEEN_AFTER_MS, TRACKED_MAX } from './limits.ts';

export type SuggestionEvent = {
  kind: 'shown' | 'accepted' | 'partially_accepted' | 'dismissed' | 'kept';
  /** Of the answer, and which of its suggestions. */
  id: string;
  index: number;
  languageId: string;
  /** Since the answer; of kept since the acceptance. */
  elapsedMs: number;
  /** UTF-16 units: of the suggestion, accepted, or kept. */
  chars: number;
  /** From the request to the answer. */
  latencyMs: number;
  fromCache: boolean;
};

export type EditorNote = {
  kind: 'shown' | 'accepted' | 'partially_accepted' | 'dismissed';
  id: string;
  index: number;
  chars?: number;
};

type Offered = {
  id: string;
  index: number;
  uri: string;
  languageId: string;
  text: string;
  /** Offset of its range's start, moved with edits before it. */
  start: number;
  /** Of the text in the document; null until it is there. */
  length: number | null;
  answeredAt: number;
  latencyMs: number;
  fromCache: boolean;
  seen: boolean;
  ended: boolean;
  stopTimers: (() => void)[];
};

export type EventParts = { clock: Clock; documents: Documents; sink: (event: SuggestionEvent) => void };

export class SuggestionEvents {
  readonly #parts: EventParts;
  readonly #offered = new Map<string, Offered>();
  readonly #stopListening: () => void;

  constructor(parts: EventParts) {
    this.#parts = parts;
    this.#stopListening = parts.documents.onEdit((edit) => this.#follow(edit));
  }

  close(): void {
    this.#stopListening();
    for (const offered of this.#offered.values()) stopAll(offered);
    this.#offered.clear();
  }

  /** An answer goes to the editor. The same text from the cache has the same id and is no new suggestion. */
  answered({ id, suggestions, from }: Answer, document: Document, latencyMs = 0): void {
    for (const [index, { insertText, range }] of suggestions.entries()) {
      const key = `${id}:${index}`;
      const known = this.#offered.get(key);
      const { uri, languageId } = document;
      const place = { text: insertText, start: document.offsetAt(range.start) };
      const made = { latencyMs, fromCache: from === 'cache' };
      if (known) {
        if (!known.ended) Object.assign(known, place, known.seen ? {} : made);
        continue;
      }
      const answeredAt = this.#parts.clock.now();
      const state = { length: null, answeredAt, seen: false, ended: false, stopTimers: [] };
      this.#offered.set(key, { id, index, uri, languageId, ...place, ...made, ...state });
      this.#dropOldest();
    }
  }

  /** What the editor tells. False: of a suggestion that is not known (any more). */
  note({ kind, id, index, chars }: EditorNote): boolean {
    const offered = this.#offered.get(`${id}:${index}`);
    if (!offered) return false;
    if (kind === 'shown') this.#shown(offered);
    else if (kind === 'dismissed') this.#dismissed(offered);
    else {
      this.#see(offered);
      this.#emit(kind, offered, chars ?? offered.text.length);
      if (kind === 'accepted' && !offered.ended) this.#accepted(offered);
    }
    return true;
  }

  /** Seen is what stands there for a while, not what flashes by between two keys. */
  #shown(offered: Offered): void {
    if (offered.seen || offered.ended || offered.stopTimers.length > 0) return;
    offered.stopTimers.push(this.#parts.clock.after(SEEN_AFTER_MS, () => this.#see(offered)));
  }

  #see(offered: Offered): void {
    if (offered.seen) return;
    offered.seen = true;
    this.#emit('shown', offered, offered.text.length);
  }

  #dismissed(offered: Offered): void {
    if (offered.ended) return;
    if (offered.seen) this.#emit('dismissed', offered, 0);
    offered.ended = true;
    stopAll(offered);
  }

  #accepted(offered: Offered): void {
    offered.ended = true;
    stopAll(offered);
    const acceptedAt = this.#parts.clock.now();
    this.#locate(offered);
    for (const ms of KEPT_AFTER_MS) {
      offered.stopTimers.push(
        this.#parts.clock.after(ms, () => {
          const chars = this.#keptChars(offered);
          if (chars !== null) this.#emit('kept', offered, chars, acceptedAt);
        }),
      );
    }
  }

  #emit(kind: SuggestionEvent['kind'], offered: Offered, chars: number, since = offered.answeredAt): void {
    const { id, index, languageId, latencyMs, fromCache } = offered;
    const elapsedMs = Math.round(this.#parts.clock.now() - since);
    this.#parts.sink({ kind, id, index, languageId, elapsedMs, chars, latencyMs, fromCache });
  }

  /** The acceptance and the edit that it makes come in either order. */
  #locate(offered: Offered): void {
    const { text } = this.#parts.documents.get(offered.uri) ?? { text: '' };
    if (text.startsWith(offered.text, offered.start)) offered.length = offered.text.length;
  }

  #follow({ uri, offset, removed, inserted }: Edit): void {
    for (const offered of this.#offered.values()) {
      if (offered.uri !== uri) continue;
      const growth = inserted.length - removed;
      if (offset + removed <= offered.start && offset < offered.start) offered.start += growth;
      else if (offered.length !== null && offset < offered.start + offered.length) {
        // What is cut from the ends of the text is gone; the rest of an edit over its ends is not its own.
        const end = Math.max(offered.start + offered.length, offset + removed) + growth;
        offered.start = Math.min(offered.start, offset);
        offered.length = Math.max(0, end - offered.start);
      } else if (offered.length === null && offered.ended) this.#locate(offered);
    }
  }

  /** How much of the text is still there, by the longest common subsequence; null where it cannot be told. */
  #keptChars(offered: Offered): number | null {
    const document = this.#parts.documents.get(offered.uri);
    if (!document || offered.length === null) return null;
    if (Math.abs(offered.length - offered.text.length) > KEPT_DRIFT_CHARS_MAX) return null;
    const now = document.text.slice(offered.start, offered.start + offered.length);
    return commonChars(offered.text, now);
  }

  #dropOldest(): void {
    const [oldest] = this.#offered;
    if (this.#offered.size <= TRACKED_MAX || !oldest) return;
    stopAll(oldest[1]);
    this.#offered.delete(oldest[0]);
  }
}

function stopAll(offered: Offered): void {
  for (const stop of offered.stopTimers.splice(0)) stop();
}

/** Compared are so many units: the cost is the product of both lengths. */
const COMPARED_CHARS_MAX = 1_000;

/** Length of the longest common subsequence of the beginnings of both. */
function commonChars(a: string, b: string): number {
  const left = a.slice(0, COMPARED_CHARS_MAX);
  const right = b.slice(0, COMPARED_CHARS_MAX + KEPT_DRIFT_CHARS_MAX);
  let row = new Array<number>(right.length + 1).fill(0);
  for (let i = 0; i < left.length; i++) {
    const next = [0];
    for (let j = 0; j < right.length; j++) {
      const same = left.charCodeAt(i) === right.charCodeAt(j);
      next.push(same ? (row[j] ?? 0) + 1 : Math.max(row[j + 1] ?? 0, next[j] ?? 0));
    }
    row = next;
  }
  return row[right.length] ?? 0;
}
