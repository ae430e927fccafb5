/** Asking ahead: what the user may want after accepting what is shown. Bounded by its share of all that is generated. */
import type { Draft } from './filters/draft.ts';
import type { Priority } from './infill-source.ts';
import { SPECULATION_FREE_CHARS, SPECULATION_SHARE } from './limits.ts';
import type { Place } from './place.ts';

/** Of code, roughly. */
const CHARS_PER_TOKEN = 3;

export class Speculation {
  #all = 0;
  #speculative = 0;

  noteGenerated(priority: Priority, chars: number): void {
    this.#all += chars;
    if (priority === 'speculative') this.#speculative += chars;
  }

  /** Whether another query of so many tokens stays within the share. */
  allowed(maxTokens: number): boolean {
    const wanted = this.#speculative + maxTokens * CHARS_PER_TOKEN;
    return wanted <= SPECULATION_FREE_CHARS || wanted <= SPECULATION_SHARE * (this.#all + maxTokens * CHARS_PER_TOKEN);
  }

  /** The place where the cursor is after `draft` was accepted at `place`. */
  static placeBehind(place: Place, draft: Draft): Place {
    const { prefix, suffix, linePrefix, lineSuffix, position } = place;
    const added = draft.text.slice(draft.coverBefore);
    const replaced = draft.coverBefore === 0 ? prefix : prefix.slice(0, prefix.length - draft.coverBefore);
    const before = draft.coverBefore === 0 ? added : draft.text;
    const lines = before.split('\n');
    const line = position.line + lines.length - 1;
    const head = lines.length === 1 ? linePrefix.slice(0, linePrefix.length - draft.coverBefore) : '';
    return {
      ...place,
      position: { line, character: head.length + (lines.at(-1) ?? '').length },
      prefix: replaced + before,
      suffix: suffix.slice(draft.coverAfter),
      linePrefix: head + (lines.at(-1) ?? ''),
      lineSuffix: lineSuffix.slice(draft.coverAfter),
    };
  }
}
