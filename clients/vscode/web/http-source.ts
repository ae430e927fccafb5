/**
 * The mesh over HTTP and server-sent events, where there is no gRPC: POST /infill for completions and for reading ahead, GET
 * /v1/models for what a model can do, POST /v1/events for what became of suggestions.
 */
import type { ReportedEvent } from '../../lsp/core/event-reporter.ts';
import { InfillFailure } from '../../lsp/core/infill-source.ts';
import type { MeshSource } from '../../lsp/core/mesh-source.ts';
import { newTraceId } from '../../lsp/core/trace-id.ts';
import { type HttpTarget, openCall, withTimeout } from './http-call.ts';
import { bodyOf, infill } from './http-infill.ts';
import { capabilitiesOf, listModels, type ModelObject, saysAbilities } from './http-models.ts';

export type { HttpTarget } from './http-call.ts';
export type HttpSource = MeshSource & { close(): void };

/** `fetchNow` is the platform's fetch; tests hand in another. close() ends what runs. */
export function openHttpSource(target: HttpTarget, fetchNow: typeof fetch = fetch): HttpSource {
  const closed = new AbortController();
  const call = openCall(target, closed.signal, fetchNow);
  // Until the mesh says otherwise it may be one that knows neither modes nor reports.
  let isOld = true;
  const models = async (signal: AbortSignal): Promise<readonly ModelObject[]> => {
    const found = await listModels(call, signal);
    isOld = !saysAbilities(found);
    return found;
  };
  return {
    infill: (query, { signal }) => infill(call, query, { isOld, signal }),
    capabilities: async (model, { signal }) => capabilitiesOf(await models(signal), model),
    async report(events, { signal }) {
      if (isOld) await models(signal);
      // As one over gRPC that does not know the method: what is to be told is kept, and tried again later.
      if (isOld) throw new InfillFailure('no_fim', 'this mesh takes no reports over HTTP');
      const response = await call('/v1/events', newTraceId(), { events: events.map(eventOf) }, withTimeout(signal));
      await response.body?.cancel();
    },
    async warm(query, { signal }) {
      const body = { ...bodyOf(query, { isOld }), n_predict: 0, n_cmpl: 1, stream: false, priority_class: 'warm' };
      const response = await call('/infill', query.traceId, body, withTimeout(signal));
      await response.body?.cancel();
    },
    close: () => closed.abort(),
  };
}

/** What is not known is left out. */
function eventOf(event: ReportedEvent): Record<string, unknown> {
  const { requestId, choice, kind, reason, languageId, fromCache, elapsedMs, characters, afterSeconds } = event;
  return {
    ...{ request_id: requestId, choice, kind, reason, language_id: languageId, from_cache: fromCache },
    ...(elapsedMs !== null && { elapsed_ms: elapsedMs }),
    ...(characters !== null && { characters }),
    ...(afterSeconds !== null && { after_seconds: afterSeconds }),
  };
}
