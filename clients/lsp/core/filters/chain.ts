/** The filters in their order. Each sees what the ones before it left. */
import type { Draft, Filter, FilterInput } from './draft.ts';
import { coverAutoClosed, dropOverlap } from './overlap.ts';
import { undoQuirks } from './quirks.ts';
import { dropLikeNextLines, dropLoopingLastLine, dropRepeatedBlocks, dropRewriteOfLineAbove } from './repeats.ts';
import { dropDuplicatedCloser, limitScope } from './scope.ts';
import { dropWithoutWord, normaliseIndentation, trimSpace } from './spaces.ts';
import { cutAtStop, stripSpecialTokens, trimToSingleLine } from './tokens.ts';

export const FILTERS: readonly (readonly [name: string, filter: Filter])[] = [
  ['special-tokens', stripSpecialTokens],
  ['stop', cutAtStop],
  ['single-line', trimToSingleLine],
  ['looping-line', dropLoopingLastLine],
  ['next-lines', dropLikeNextLines],
  ['space', trimSpace],
  ['no-word', dropWithoutWord],
  ['repeated-blocks', dropRepeatedBlocks],
  ['scope', limitScope],
  ['block-closer', dropDuplicatedCloser],
  ['indentation', normaliseIndentation],
  ['overlap', dropOverlap],
  ['auto-closed', coverAutoClosed],
  ['line-above', dropRewriteOfLineAbove],
  ['quirks', undoQuirks],
];

export type ChainVerdict = { ok: true; draft: Draft } | { ok: false; rule: string };

/** What of a model's text may be shown; otherwise the first filter that left nothing. */
export function runFilters(text: string, input: FilterInput): ChainVerdict {
  let draft: Draft = { text, coverBefore: 0, coverAfter: 0 };
  for (const [rule, filter] of FILTERS) {
    const next = filter(draft, input);
    if (next === null || next.text.trim() === '') return { ok: false, rule };
    draft = next;
  }
  return { ok: true, draft };
}
