// Describe: the model, its limits and the backend.
import type { DescribeResponse } from '#gen/quern/engine/v1/engine.ts';
import type { EngineContext } from '../context.ts';

export function describe(context: EngineContext): DescribeResponse {
  const { model } = context.native;
  return {
    ...model,
    model: context.modelName,
    parameterCount: BigInt(model.parameterCount),
    weightBytes: BigInt(model.weightBytes),
    kvBytes: BigInt(model.kvBytes),
    instanceId: context.instanceId,
  };
}
