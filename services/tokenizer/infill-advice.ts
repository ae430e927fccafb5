// How long an infill's prompt is best: what a model's folder advises, for models that gain nothing from more.
import { QuernError } from '#kit/errors.ts';
import { INFILL_ADVICE_TOKENS_MAX, INFILL_ADVICE_TOKENS_MIN } from './limits.ts';
import type { ModelFiles } from './model-files.ts';

/** `infill_prompt_tokens` of quern.json, in tokens of the whole prompt; null: as many as fit. Throws MODEL_LOAD_FAILED. */
export function infillAdvice({ dir, quern }: ModelFiles): number | null {
  const given = quern.infill_prompt_tokens;
  if (given === undefined || given === null) return null;
  const [least, most] = [INFILL_ADVICE_TOKENS_MIN, INFILL_ADVICE_TOKENS_MAX];
  if (typeof given === 'number' && Number.isInteger(given) && given >= least && given <= most) return given;
  const wanted = `infill_prompt_tokens to be a whole number from ${least} to ${most}`;
  const got = JSON.stringify(given).slice(0, 100);
  throw new QuernError('FAILED_PRECONDITION', `${dir}/quern.json: expected ${wanted}, got ${got}; correct it`, {
    reason: 'MODEL_LOAD_FAILED',
  });
}
