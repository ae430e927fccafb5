// What the public API says about one served model.
import type { Model } from '#gen/quern/gateway/v1/gateway.ts';
import type { GatewayContext } from './context.ts';
import type { ServedModel } from './models.ts';

export function describeModel({ models, tokenizer }: GatewayContext, model: ServedModel): Model {
  const description = models.description(model);
  const header = tokenizer.vocabulary(model.name)?.header;
  return {
    name: model.name,
    contextLength: description?.contextLength ?? 0,
    architecture: description?.architecture ?? '',
    dtype: description?.dtype ?? '',
    backend: description?.backend ?? '',
    isa: description?.isa ?? '',
    fimFamily: header?.fimFamily ?? '',
    chat: (header?.chatTemplateHash ?? '') !== '',
    parameterCount: description?.parameterCount ?? 0n,
    ready: models.ready(model),
    replicas: model.replicas.length,
    toolParser: header?.toolParser ?? '',
    reasoningParser: header?.reasoningParser ?? '',
    modelHash: description?.modelHash ?? '',
    infillPromptTokens: header?.infillPromptTokens ?? 0,
  };
}
