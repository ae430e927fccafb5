import type { ReportEventsRequest, ReportEventsResponse } from '#gen/quern/gateway/v1/gateway.ts';
import type { GatewayContext } from '../context.ts';
import { checkEvents } from '../suggestion-events.ts';

/** CompletionService.ReportEvents: all events or, when one is malformed, none. */
export function reportEvents(context: GatewayContext) {
  return ({ events }: ReportEventsRequest): ReportEventsResponse => {
    checkEvents(events);
    for (const event of events) context.metrics.suggestion(event);
    return { counted: events.length };
  };
}
