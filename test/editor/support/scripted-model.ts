/** A model that says the same thing at the same place: what stands before the cursor decides. */
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { bytesOf, EOS, SPECIAL } from '../../contract/gateway/fakes/mock-tokenizer.ts';

const SUFFIX = 256 + SPECIAL.indexOf('<|fim_suffix|>');

/** The text before the cursor that a request is about. */
export function prefixOf({ tokenIds }: GenerationRequest): string {
  const before = tokenIds.slice(0, tokenIds.indexOf(SUFFIX));
  return Buffer.from(before.filter((id) => id < 256)).toString();
}

/**
 * `lines`: what a model would write from a place on, by what stands before it. It goes on with the rest of a text of which a
 * part stands there already, and has nothing to say anywhere else.
 */
export function scriptOf(lines: readonly [before: string, text: string][]) {
  return (request: GenerationRequest): readonly number[] => {
    const prefix = prefixOf(request);
    for (const [before, text] of lines) {
      const at = prefix.lastIndexOf(before);
      const typed = at < 0 ? null : prefix.slice(at + before.length);
      if (typed !== null && text.startsWith(typed) && typed.length < text.length)
        return bytesOf(text.slice(typed.length));
    }
    return [EOS];
  };
}
