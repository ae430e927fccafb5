// Abort: cancels by request id. Idempotent; unknown ids are reported, not errors.
import type { AbortRequest, AbortResponse } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import type { EngineContext } from '../context.ts';
import { ABORT_IDS_MAX } from '../limits.ts';

export function abort(context: EngineContext, { requestIds }: AbortRequest): AbortResponse {
  if (requestIds.length > ABORT_IDS_MAX) {
    const description = `expected at most ${ABORT_IDS_MAX} ids, got ${requestIds.length}`;
    throw new QuernError('INVALID_ARGUMENT', `request_ids: ${description}`, {
      fields: [{ field: 'request_ids', description }],
    });
  }
  const response: AbortResponse = { aborted: [], unknown: [] };
  for (const id of new Set(requestIds)) (context.streams.abort(id) ? response.aborted : response.unknown).push(id);
  return response;
}
