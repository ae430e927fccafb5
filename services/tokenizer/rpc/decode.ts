// Decode: ids to text.
import type { DecodeRequest, DecodeResponse } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import type { TokenizerContext } from '../context.ts';
import { DECODE_TOKENS_MAX } from '../limits.ts';

export function decode(context: TokenizerContext, request: DecodeRequest): DecodeResponse {
  const model = context.models.get(request.model);
  const { tokenIds } = request;
  if (tokenIds.length > DECODE_TOKENS_MAX) {
    const description = `expected at most ${DECODE_TOKENS_MAX} ids, got ${tokenIds.length}; send fewer`;
    throw new QuernError('INVALID_ARGUMENT', `token_ids: ${description}`, {
      reason: 'TEXT_TOO_LONG',
      fields: [{ field: 'token_ids', description }],
    });
  }
  return { text: model.tokenizer.decode(tokenIds, { skipSpecial: request.skipSpecial }) };
}
