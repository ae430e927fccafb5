// GetLoad: load at this moment, for routing and admission.
import type { GetLoadResponse } from '#gen/quern/engine/v1/engine.ts';
import type { EngineContext } from '../context.ts';
import { kvUsage } from '../engine-metrics.ts';

export function getLoad(context: EngineContext): GetLoadResponse {
  const load = context.native.load();
  return {
    ...load,
    kvUsage: kvUsage(load),
    steps: BigInt(load.steps),
    preemptions: BigInt(load.preemptions),
    prefixQueriesTokens: BigInt(load.prefixQueryTokens),
    prefixHitTokens: BigInt(load.prefixHitTokens),
  };
}
