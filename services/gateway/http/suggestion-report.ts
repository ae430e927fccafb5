// POST /v1/events with `events`: what became of suggestions, as gRPC's ReportEvents takes it. One `type` is Tabby's form.
import { z } from 'zod';
import { type SuggestionEvent, SuggestionEventKind } from '#gen/quern/gateway/v1/gateway.ts';
import type { GatewayContext } from '../context.ts';
import { SUGGESTION_EVENTS_MAX } from '../limits.ts';
import { checkEvents } from '../suggestion-events.ts';
import { validate } from './body.ts';
import { type Exchange, sendJson } from './exchange.ts';
import { count } from './sampling-schema.ts';

const UINT32_MAX = 0xffffffff;

const KINDS = {
  shown: SuggestionEventKind.SUGGESTION_EVENT_KIND_SHOWN,
  accepted: SuggestionEventKind.SUGGESTION_EVENT_KIND_ACCEPTED,
  partially_accepted: SuggestionEventKind.SUGGESTION_EVENT_KIND_PARTIALLY_ACCEPTED,
  dismissed: SuggestionEventKind.SUGGESTION_EVENT_KIND_DISMISSED,
  kept: SuggestionEventKind.SUGGESTION_EVENT_KIND_KEPT,
  not_shown: SuggestionEventKind.SUGGESTION_EVENT_KIND_NOT_SHOWN,
} as const;

const kinds = Object.keys(KINDS) as (keyof typeof KINDS)[];

/** Ranges are checked where those of gRPC are. */
const event = z.looseObject({
  request_id: z.string().nullish(),
  choice: count(UINT32_MAX).nullish(),
  kind: z.enum(kinds),
  reason: z.string().nullish(),
  elapsed_ms: count(UINT32_MAX).nullish(),
  characters: count(UINT32_MAX).nullish(),
  language_id: z.string().nullish(),
  after_seconds: count(UINT32_MAX).nullish(),
  from_cache: z.boolean().nullish(),
});

const schema = z.looseObject({ events: z.array(event).min(1).max(SUGGESTION_EVENTS_MAX) });

/** True for a report, false for Tabby's one event. */
export function isReport(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'events' in body;
}

function eventOf(told: z.output<typeof event>): SuggestionEvent {
  return {
    requestId: told.request_id ?? '',
    choice: told.choice ?? 0,
    kind: KINDS[told.kind],
    reason: told.reason ?? '',
    elapsedMs: told.elapsed_ms ?? undefined,
    characters: told.characters ?? undefined,
    languageId: told.language_id ?? '',
    afterSeconds: told.after_seconds ?? undefined,
    fromCache: told.from_cache ?? false,
  };
}

/** Counts all events or, when one is malformed, none. */
export function suggestionReport(context: GatewayContext, { body, response }: Exchange): void {
  const events = validate(schema, body).events.map(eventOf);
  checkEvents(events);
  for (const one of events) context.metrics.suggestion(one);
  sendJson(response, { counted: events.length });
}
