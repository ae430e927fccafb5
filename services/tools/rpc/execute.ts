// Execute: runs a tool and hands on what happens, the Result last.
import type { ExecuteRequest, ExecuteResponse } from '#gen/quern/tools/v1/tools.ts';
import { QuernError } from '#kit/errors.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import type { CallRequest } from '../call-request.ts';
import type { ToolsContext } from '../context.ts';
import { keyDigest } from '../executor.ts';
import {
  callerField,
  callIdField,
  checkExecute,
  endField,
  limitsField,
  requestDigest,
  sha256Field,
  taintField,
} from '../request-fields.ts';
import type { Tool } from '../tool.ts';

function findTool({ catalog }: ToolsContext, name: string, sha: string): Tool {
  const tool = catalog.get(name);
  if (sha !== '' && sha !== tool.definition.sha256) {
    const message = `tool_sha256: the definition of "${name}" has changed since it was listed; list the tools again`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'TOOL_CHANGED' });
  }
  return tool;
}

function toRequest(context: ToolsContext, request: ExecuteRequest, call: CallContext): CallRequest {
  checkExecute(request);
  const caller = callerField(request.caller);
  const taint = taintField(request.taint);
  const tool = findTool(context, request.tool, sha256Field('tool_sha256', request.toolSha256));
  const verdict = context.catalog.verdict(tool, { tenant: caller.tenant, taint });
  return {
    caller,
    callId: callIdField(request.callId),
    key: keyDigest(caller, request.idempotencyKey),
    requestSha: requestDigest(request, caller),
    tool,
    verdict,
    argumentsJson: request.argumentsJson,
    stdin: request.stdin.length === 0 ? null : request.stdin,
    ...limitsField(verdict.policy, request.limits),
    endUnixMs: endField(request, call.deadlineUnixMs),
    depth: request.depth,
    taint,
    trace: call.trace,
  };
}

export function execute(
  context: ToolsContext,
  request: ExecuteRequest,
  call: CallContext,
  out: Out<ExecuteResponse>,
): Promise<void> {
  return context.executor.execute(toRequest(context, request, call), out, call.signal);
}
