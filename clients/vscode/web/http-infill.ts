/** POST /infill: a query as the mesh takes it over HTTP, and its server-sent events as the core hears them. */
import { type InfillEvent, InfillFailure, type InfillQuery } from '../../lsp/core/infill-source.ts';
import { eventData } from './event-lines.ts';
import { type Call, failureIn, interrupted } from './http-call.ts';

/**
 * `isOld`: the mesh may be one from before `mode` and `soft_deadline_ms`, which it passes over. It is told the same in llama.cpp's
 * terms, and these end no text earlier at a newer mesh.
 */
export function bodyOf(query: InfillQuery, { isOld }: { isOld: boolean }): Record<string, unknown> {
  return {
    ...(query.model !== '' && { model: query.model }),
    request_id: query.requestId,
    supersede_key: query.supersedeKey,
    priority_class: query.priority,
    input_prefix: query.prefix,
    input_suffix: query.suffix,
    path: query.path,
    repository: query.repository,
    language_id: query.languageId,
    input_extra: query.chunks.map(({ path, text, kind }) => ({ filename: path, text, ...(kind && { kind }) })),
    n_predict: query.maxTokens,
    n_cmpl: query.candidates,
    temperature: query.temperature,
    mode: query.ending,
    soft_deadline_ms: query.softDeadlineMs,
    ...(isOld && { t_max_predict_ms: query.softDeadlineMs }),
    ...(isOld && query.singleLine && { stop: ['\n'] }),
    stream: true,
  };
}

/** Throws InfillFailure. Leaving the loop early cancels the request at the mesh. */
export async function* infill(
  call: Call,
  query: InfillQuery,
  options: { isOld: boolean; signal: AbortSignal },
): AsyncGenerator<InfillEvent, void, undefined> {
  const { signal } = options;
  if (signal.aborted) throw new InfillFailure('cancelled', 'cancelled before it was sent');
  const response = await call('/infill', query.traceId, bodyOf(query, options), signal);
  const { body } = response;
  if (!body) throw new InfillFailure('failed', 'expected events, got an answer without a body');
  let open = query.candidates;
  let superseded = false;
  try {
    yield { kind: 'accepted', traceId: response.headers.get('x-trace-id') ?? query.traceId };
    for await (const data of eventData(body)) {
      const told = toldBy(data);
      const event = eventOf(told);
      if (event === null) continue;
      yield event;
      if (event.kind === 'finished') open -= 1;
      superseded ||= told.quern?.finish_reason === 'superseded';
    }
  } catch (cause) {
    throw interrupted(signal, cause);
  } finally {
    if (!body.locked) await body.cancel().catch(() => undefined); // whoever leaves early frees the place at the engine
  }
  if (open > 0 && !superseded) throw new InfillFailure('offline', 'the mesh went away in the middle of its answer');
  yield { kind: 'end', superseded };
}

type Told = {
  index?: number;
  content?: string;
  stop?: boolean;
  stop_type?: string;
  /** In a choice's last event; an older mesh has none. */
  quern?: { finish_reason?: string; scope_ended?: boolean };
  error?: unknown;
};

function toldBy(data: string): Told {
  if (data === '[DONE]') return {};
  try {
    return JSON.parse(data) as Told;
  } catch (cause) {
    throw new InfillFailure('failed', 'expected an event of JSON, got another text: is this address a mesh?', {
      cause,
    });
  }
}

/** Null for what says nothing. Throws InfillFailure for an error in the stream. */
function eventOf(told: Told): InfillEvent | null {
  if (told.error !== undefined) throw failureIn(told);
  const { index = 0, content, stop_type: stopType, quern = {} } = told;
  if (told.stop !== true) return content ? { kind: 'delta', index, text: content } : null;
  const { finish_reason: reason = stopType === 'limit' ? 'length' : 'stop', scope_ended: scopeEnded = false } = quern;
  return { kind: 'finished', index, cut: reason !== 'stop', scopeEnded };
}
