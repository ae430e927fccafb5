// How an infill mode ends a completion, decided from what stands around the cursor.
import { InfillMode } from '#gen/quern/gateway/v1/gateway.ts';
import { hasCodeBehind, type InfillPlace, readContext, type ScopeContext } from './scope-context.ts';
import type { ScopeKind } from './scope-stop.ts';

/** Null: the whole text belongs to it. */
export type Scope = { readonly context: ScopeContext; readonly kind: ScopeKind } | null;

const ONE_LINE = { modeStop: ['\n'], scope: null };

/** Stop strings and scope of a mode; `place` has LF line ends. */
export function infillEnd(mode: InfillMode, place: InfillPlace): { modeStop: readonly string[]; scope: Scope } {
  switch (mode) {
    case InfillMode.INFILL_MODE_SINGLE_LINE:
      return ONE_LINE;
    case InfillMode.INFILL_MODE_UNBOUNDED:
      return { modeStop: [], scope: null };
    case InfillMode.INFILL_MODE_MULTI_LINE:
      return { modeStop: [], scope: { context: readContext(place), kind: 'block' } };
    default: {
      if (hasCodeBehind(place.suffix)) return ONE_LINE;
      const context = readContext(place);
      const { lineComments } = context.syntax;
      const head = context.head.trim();
      // Behind a comment stands what it is about, however many statements that takes.
      const isComment = lineComments.some((mark) => head.startsWith(mark));
      return { modeStop: [], scope: { context, kind: head === '' || isComment ? 'block' : 'statement' } };
    }
  }
}
