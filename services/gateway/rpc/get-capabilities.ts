import {
  type GetCapabilitiesRequest,
  type GetCapabilitiesResponse,
  InfillMode,
} from '#gen/quern/gateway/v1/gateway.ts';
import type { GatewayContext } from '../context.ts';
import { INFILL_CHUNKS_MAX, INFILL_TOKENS_DEFAULT } from '../limits.ts';
import { describeModel } from '../served-model.ts';

const MODES = [
  InfillMode.INFILL_MODE_SINGLE_LINE,
  InfillMode.INFILL_MODE_MULTI_LINE,
  InfillMode.INFILL_MODE_AUTO,
  InfillMode.INFILL_MODE_UNBOUNDED,
];

/** CompletionService.GetCapabilities. NOT_FOUND names what is served. */
export function getCapabilities(context: GatewayContext) {
  return (request: GetCapabilitiesRequest): GetCapabilitiesResponse => {
    const model = context.models.resolve(request.model);
    const { fimFamily, contextLength, ready, infillPromptTokens, modelHash } = describeModel(context, model);
    const header = context.tokenizer.vocabulary(model.name)?.header;
    return {
      model: model.name,
      infill: fimFamily !== '',
      fimFamily,
      promptOrder: header?.fimOrder ?? '',
      contextLength,
      chunksMax: INFILL_CHUNKS_MAX,
      maxTokensDefault: INFILL_TOKENS_DEFAULT,
      modes: MODES,
      ready,
      tokenizerHash: header?.contentHash ?? '',
      infillPromptTokens,
      modelHash,
    };
  };
}
