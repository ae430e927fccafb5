// Encode: one text to ids.
import type { EncodeRequest, EncodeResponse } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { TokenizerContext } from '../context.ts';
import { parseSpecialOf } from '../parse-special.ts';

export function encode(context: TokenizerContext, request: EncodeRequest): EncodeResponse {
  const model = context.models.get(request.model);
  context.checkTexts(model, 'text', [request.text]);
  const { tokenizer } = model;
  const ids = tokenizer.encode(request.text, parseSpecialOf(request.parseSpecial));
  context.countTokens('Encode', ids.length);
  const bos = request.addBos ? tokenizer.bosIds : [];
  return { tokenIds: [...bos, ...ids] };
}
