import type { RunRequest, RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import type { CallContext, Out } from '#kit/rpc/server.ts';
import { startRun } from '../agent/start-run.ts';
import type { GatewayContext } from '../context.ts';
import { REQUEST_ID } from '../typed-request.ts';
import { streamRun } from './agent-stream.ts';
import { callerOf } from './typed.ts';

/** AgentService.Run. */
export function agentRun(context: GatewayContext) {
  return async (request: RunRequest, call: CallContext, out: Out<RunResponse>): Promise<void> => {
    const requestId = REQUEST_ID.test(call.requestId) ? call.requestId : '';
    const deadlineMs = call.deadlineUnixMs === null ? null : call.deadlineUnixMs - Date.now();
    const { reader } = await startRun(context, request, { ...callerOf(call), requestId, deadlineMs });
    await streamRun(reader, call, out, (event) => event);
  };
}
