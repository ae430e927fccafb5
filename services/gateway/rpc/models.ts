import type { GetModelRequest, GetModelResponse, ListModelsResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { GatewayContext } from '../context.ts';
import { describeModel } from '../served-model.ts';

/** ModelService.ListModels: everything configured, ready or not. */
export function listModels(context: GatewayContext) {
  return (): ListModelsResponse => ({ models: context.models.all().map((model) => describeModel(context, model)) });
}

/** ModelService.GetModel. NOT_FOUND names what is served. */
export function getModel(context: GatewayContext) {
  return ({ model }: GetModelRequest): GetModelResponse => ({
    model: describeModel(context, context.models.resolve(model)),
  });
}
