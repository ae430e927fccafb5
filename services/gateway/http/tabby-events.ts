// POST /v1/events with `type`: what Tabby's agent tells about its completions, counted as gRPC's ReportEvents are.
import { z } from 'zod';
import { type SuggestionEvent, SuggestionEventKind } from '#gen/quern/gateway/v1/gateway.ts';
import type { GatewayContext } from '../context.ts';
import { checkEvents } from '../suggestion-events.ts';
import { validate } from './body.ts';
import type { Exchange, Handler } from './exchange.ts';
import { count } from './sampling-schema.ts';
import { isReport, suggestionReport } from './suggestion-report.ts';

const UINT32_MAX = 0xffffffff;
const DAY_MS = 86_400_000;

const schema = z.looseObject({
  type: z.enum(['view', 'select', 'dismiss']),
  completion_id: z.string(),
  choice_index: count(UINT32_MAX),
  /** Milliseconds since the view. */
  elapsed: z.int().min(0).nullish(),
  /** "line": only a part was taken. Stands in the query too. */
  select_kind: z.string().nullish(),
});

type Body = z.output<typeof schema>;

function kindOf({ type, select_kind }: Body, { request }: Exchange): SuggestionEventKind {
  if (type === 'view') return SuggestionEventKind.SUGGESTION_EVENT_KIND_SHOWN;
  if (type === 'dismiss') return SuggestionEventKind.SUGGESTION_EVENT_KIND_DISMISSED;
  const asked = new URLSearchParams((request.url ?? '').split('?')[1] ?? '').get('select_kind');
  return (asked ?? select_kind) === 'line'
    ? SuggestionEventKind.SUGGESTION_EVENT_KIND_PARTIALLY_ACCEPTED
    : SuggestionEventKind.SUGGESTION_EVENT_KIND_ACCEPTED;
}

/** Answers 200 without a body, as Tabby does. Of a view it does not tell how long it took, and of none the language. */
export function tabbyEvents(context: GatewayContext): Handler {
  return (exchange) => {
    if (isReport(exchange.body)) return suggestionReport(context, exchange);
    const body = validate(schema, exchange.body);
    const { elapsed, type } = body;
    const known = type !== 'view' && typeof elapsed === 'number' && elapsed <= DAY_MS;
    const event: SuggestionEvent = {
      requestId: body.completion_id.replace(/^cmpl-/, ''),
      choice: body.choice_index,
      kind: kindOf(body, exchange),
      reason: '',
      elapsedMs: known ? elapsed : undefined,
      characters: undefined,
      languageId: '',
      afterSeconds: undefined,
      fromCache: false,
    };
    checkEvents([event]);
    context.metrics.suggestion(event);
    exchange.response.writeHead(200, { 'content-length': '0' }).end();
  };
}
