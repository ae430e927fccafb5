// EndSession: a run that was given no session has ended, and nobody can come back to its workspace.
import type { EndSessionRequest, EndSessionResponse } from '#gen/quern/tools/v1/tools.ts';
import { isNameless } from '../call-ports.ts';
import type { ToolsContext } from '../context.ts';
import { callerField } from '../request-fields.ts';

export async function endSession({ copies }: ToolsContext, { caller }: EndSessionRequest): Promise<EndSessionResponse> {
  const session = callerField(caller);
  return { removed: isNameless(session) && (await copies.discard(session)) };
}
