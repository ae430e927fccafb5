// CountTokens: how many ids Encode would give, without BOS.
import type { CountTokensRequest, CountTokensResponse } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { TokenizerContext } from '../context.ts';
import { parseSpecialOf } from '../parse-special.ts';

export function countTokens(context: TokenizerContext, request: CountTokensRequest): CountTokensResponse {
  const model = context.models.get(request.model);
  context.checkTexts(model, 'text', [request.text]);
  const { length } = model.tokenizer.encode(request.text, parseSpecialOf(request.parseSpecial));
  context.countTokens('CountTokens', length);
  return { tokenCount: length };
}
