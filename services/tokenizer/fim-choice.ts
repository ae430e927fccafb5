// Which FIM family a model has: quern.json says so, or its tokens do.
import { QuernError } from '#kit/errors.ts';
import { FIM_FAMILIES, type FimFamily } from './fim-families.ts';
import type { ModelFiles } from './model-files.ts';
import type { Vocabulary } from './vocabulary.ts';

function missing(family: FimFamily, { idOf }: Vocabulary): string[] {
  return family.required.filter((literal) => !idOf.has(literal));
}

/**
 * Null: the model has no FIM. Each control token of a family is exactly one id or the model does not have the family.
 * Throws MODEL_LOAD_FAILED when quern.json names a family that does not exist or whose tokens the model lacks.
 */
export function chooseFimFamily({ dir, quern }: ModelFiles, vocabulary: Vocabulary): FimFamily | null {
  const named = quern.fim_family;
  if (named === undefined || named === null) {
    const family = FIM_FAMILIES.find((one) => one.onlyByName !== true && missing(one, vocabulary).length === 0);
    return family ?? null;
  }
  if (named === 'none' || named === '') return null;
  const family = FIM_FAMILIES.find(({ name }) => name === named);
  if (!family) {
    const known = FIM_FAMILIES.map(({ name }) => name).join(', ');
    const message = `${dir}/quern.json: expected fim_family to be none or one of ${known}, got ${JSON.stringify(named)}; correct it`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' });
  }
  const lacking = missing(family, vocabulary);
  if (lacking.length === 0) return family;
  const lacked = `needs ${lacking.join(' ')} as one token each, but the vocabulary lacks them`;
  const message = `${dir}/quern.json: fim_family ${family.name} ${lacked}; correct fim_family`;
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' });
}
