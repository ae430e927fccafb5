import type { AttachRequest, AttachResponse } from '#gen/quern/gateway/v1/agent.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import { requireAgents } from '../agent/agents.ts';
import type { GatewayContext } from '../context.ts';
import { streamRun } from './agent-stream.ts';

/** AgentService.Attach: a run of the same principal, from behind an event on. */
export function agentAttach(context: GatewayContext) {
  return async (
    { runId, afterSequence }: AttachRequest,
    call: CallContext,
    out: Out<AttachResponse>,
  ): Promise<void> => {
    const run = requireAgents(context).runs.own(call.principal, runId);
    await streamRun(run.read(Number(afterSequence)), call, out, (event) => ({ event }));
  };
}
