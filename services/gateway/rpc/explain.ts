import type { ExplainRequest, ExplainResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { byAnswerId } from '../answer-id.ts';
import type { GatewayContext } from '../context.ts';
import { EXPLAIN_REQUESTS_MAX, REQUEST_ID_CHARS_MAX } from '../limits.ts';
import type { RequestTimeline } from '../request-timeline.ts';
import { invalidArgument, REQUEST_ID } from '../typed-request.ts';

function explained(timeline: RequestTimeline): ExplainResponse {
  const { facts, model, arrivedUnixMs, end, usage, durationUs, resumes, steps, longestGapMs } = timeline;
  const { requestId, method, principal, traceId } = facts;
  const error = end?.error ?? null;
  return {
    requestId,
    model,
    method,
    user: principal.user,
    arrived: new Date(arrivedUnixMs).toISOString(),
    traceId,
    outcome: end?.outcome ?? '',
    code: error?.code ?? '',
    reason: error?.reason ?? '',
    message: error?.message ?? '',
    stages: timeline.stages(),
    durationUs,
    usage,
    timings: end?.timings,
    resumes,
    steps,
    longestGapUs: BigInt(Math.round(longestGapMs * 1000)),
  };
}

/** RequestService.Explain: where the time of a request went. NOT_FOUND for what is forgotten or another's. */
export function explain(context: GatewayContext) {
  return ({ requestId }: ExplainRequest, call: CallContext): ExplainResponse => {
    if (!REQUEST_ID.test(requestId)) {
      const description = `expected a request id of 1..${REQUEST_ID_CHARS_MAX} characters, got ${requestId.length}`;
      throw invalidArgument([{ field: 'request_id', description }]);
    }
    const timeline = byAnswerId(requestId, (id) => context.explain.find(call.principal, id));
    if (timeline) return explained(timeline);
    const message =
      `no request "${requestId}" of yours is among the last ${EXPLAIN_REQUESTS_MAX} of this gateway; ` +
      `the audit log keeps older ones: quern audit query --request ${requestId}`;
    throw new QuernError('NOT_FOUND', message, { reason: 'REQUEST_NOT_KNOWN' });
  };
}
