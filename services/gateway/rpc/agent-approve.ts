import type { ApproveRequest, ApproveResponse } from '#gen/quern/gateway/v1/agent.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { requireAgents } from '../agent/agents.ts';
import { DENIAL_CHARS_MAX } from '../agent/limits.ts';
import type { GatewayContext } from '../context.ts';
import { invalidArgument } from '../typed-request.ts';

const DIGEST_BYTES = 32;

/** AgentService.Approve: answers a call that waits. */
export function agentApprove(context: GatewayContext) {
  return async ({ runId, ...given }: ApproveRequest, call: CallContext): Promise<ApproveResponse> => {
    const { digest, reason, allow, unattended } = given;
    if (digest.length !== DIGEST_BYTES) {
      const description = `expected the ${DIGEST_BYTES} bytes of CallApproval, got ${digest.length}`;
      throw invalidArgument([{ field: 'digest', description }]);
    }
    if (reason.length > DENIAL_CHARS_MAX) {
      const description = `expected at most ${DENIAL_CHARS_MAX} characters, got ${reason.length}`;
      throw invalidArgument([{ field: 'reason', description }]);
    }
    if (allow && unattended) {
      throw invalidArgument([
        { field: 'unattended', description: 'expected false beside "allow": nobody cannot allow' },
      ]);
    }
    const run = requireAgents(context).runs.ofTenant(call.principal, runId, given.approvalId);
    await run.answer(call.principal, given, call.trace);
    return {};
  };
}
