/** From a model's texts to what an editor may show: filtered, without doubles, as text and range. */
import type { Range } from './documents.ts';
import { runFilters } from './filters/chain.ts';
import type { Draft } from './filters/draft.ts';
import type { Place } from './place.ts';
import type { CachedText } from './suggestion-cache.ts';

export type Suggestion = {
  /** Replaces `range`, which lies in the cursor's line. Line ends are the document's. */
  insertText: string;
  range: Range;
};

export type Presentation = { suggestions: Suggestion[]; drafts: Draft[]; rule: string | null };

/** `rule`: the filter that took the first text, when no suggestion is left and there was text. */
export function present(texts: readonly CachedText[], place: Place, options: { singleLine: boolean }): Presentation {
  const found: Presentation = { suggestions: [], drafts: [], rule: null };
  for (const { text, cut, scoped } of texts) {
    if (text.trim() === '') continue;
    const verdict = runFilters(text, { around: place, singleLine: options.singleLine, cut, scoped, stop: [] });
    if (!verdict.ok) found.rule ??= verdict.rule;
    else {
      const suggestion = suggestionOf(verdict.draft, place);
      if (found.suggestions.some(({ insertText }) => insertText === suggestion.insertText)) continue;
      found.suggestions.push(suggestion);
      found.drafts.push(verdict.draft);
    }
  }
  return found;
}

function suggestionOf(draft: Draft, place: Place): Suggestion {
  const { position, selected, lineEnd, linePrefix } = place;
  const withEnds = (text: string): string => (lineEnd === '\n' ? text : text.replaceAll('\n', lineEnd));
  if (selected) {
    // The editor shows only what begins with its own choice and replaces the same range.
    const own = draft.text.slice(draft.coverBefore);
    return { insertText: selected.text + withEnds(own), range: selected.range };
  }
  const { line, character } = position;
  const start = Math.max(0, character - Math.min(draft.coverBefore, linePrefix.length));
  return {
    insertText: withEnds(draft.text),
    range: { start: { line, character: start }, end: { line, character: character + draft.coverAfter } },
  };
}
