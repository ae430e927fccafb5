// The proto's ParseSpecial as the tokenizer's.
import { ParseSpecial as Wire } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import type { ParseSpecial } from './tokenizer.ts';

export function parseSpecialOf(value: Wire): ParseSpecial {
  switch (value) {
    case Wire.PARSE_SPECIAL_UNSPECIFIED:
    case Wire.PARSE_SPECIAL_NONE:
      return 'none';
    case Wire.PARSE_SPECIAL_FIM:
      return 'fim';
    case Wire.PARSE_SPECIAL_ALL:
      return 'all';
    default: {
      const description = `expected PARSE_SPECIAL_NONE, _FIM or _ALL, got ${value}; correct it`;
      throw new QuernError('INVALID_ARGUMENT', `parse_special: ${description}`, {
        reason: 'FIELD_INVALID',
        fields: [{ field: 'parse_special', description }],
      });
    }
  }
}
