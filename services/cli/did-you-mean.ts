/** The hint at the end of a refusal of a name. */
import { nearest } from '#kit/nearest.ts';

const EDITS_MAX = 3;

/** `; did you mean X?`, or nothing when no candidate is close. At most half of a short name may differ. */
export function didYouMean(written: string, candidates: Iterable<string>): string {
  const meant = nearest(written, candidates, Math.min(EDITS_MAX, Math.floor(written.length / 2)));
  return meant === null ? '' : `; did you mean ${meant}?`;
}
