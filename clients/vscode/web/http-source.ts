/**
 * The mesh over HTTP and server-sent events, where there is no gRPC: POST /infill for completions and for reading ahead, GET
 * /v1/models for what a model can do. Events about suggestions are not told: HTTP has only Tabby's form of them.
 */
import type { Capabilities } from '../../lsp/core/capabilities.ts';
import { type FailureKind, type InfillEvent, InfillFailure, type InfillQuery } from '../../lsp/core/infill-source.ts';
import type { MeshSource } from '../../lsp/core/mesh-source.ts';
import { newTraceId, traceparentOf } from '../../lsp/core/trace-id.ts';
import { eventData } from './event-lines.ts';

export type HttpTarget = {
  /** http://127.0.0.1:8000 or https://…, without a slash at the end. */
  url: string;
  apiKey: string | null;
};

export type HttpSource = MeshSource & { close(): void };

/** Of a call that generates nothing: a mesh that takes longer is not there. */
const CALL_MS_MAX = 10_000;
/** Other files that POST /infill takes. */
const CHUNKS_MAX = 256;
/** What the mesh adds to what a message says is of no use to a reader beyond this. */
const MESSAGE_CHARS_MAX = 300;

const KINDS: Readonly<Record<number, FailureKind>> = {
  401: 'unauthenticated',
  403: 'unauthenticated',
  408: 'timeout',
  429: 'overloaded',
  502: 'offline',
  503: 'offline',
  504: 'timeout',
};

/** `fetchNow` is the platform's fetch; tests hand in another. close() ends what runs. */
export function openHttpSource(target: HttpTarget, fetchNow: typeof fetch = fetch): HttpSource {
  const closed = new AbortController();
  const call: Call = (path, traceId, body, signal) => {
    const headers = headersOf(target, traceId, body !== null);
    const method = body === null ? 'GET' : 'POST';
    const all = AbortSignal.any([signal, closed.signal]);
    const content = body === null ? {} : { body: JSON.stringify(body) };
    return answerTo(fetchNow(`${target.url}${path}`, { method, headers, signal: all, ...content }), all);
  };
  return {
    infill: (query, { signal }) => infill(call, query, signal),
    capabilities: (model, { signal }) => capabilities(call, model, signal),
    report: () => Promise.reject(new InfillFailure('failed', 'events are not told over HTTP')),
    async warm(query, { signal }) {
      const body = { ...bodyOf(query), n_predict: 0, n_cmpl: 1, stream: false, priority_class: 'warm' };
      const response = await call('/infill', query.traceId, body, withTimeout(signal));
      await response.body?.cancel();
    },
    close: () => closed.abort(),
  };
}

type Call = (path: string, traceId: string, body: object | null, signal: AbortSignal) => Promise<Response>;

const withTimeout = (signal: AbortSignal): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(CALL_MS_MAX)]);

function headersOf({ apiKey }: HttpTarget, traceId: string, withBody: boolean): Record<string, string> {
  return {
    traceparent: traceparentOf(traceId),
    ...(withBody && { 'content-type': 'application/json' }),
    ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
  };
}

/** Throws InfillFailure for everything but an answer that says yes. */
async function answerTo(sent: Promise<Response>, signal: AbortSignal): Promise<Response> {
  const response = await sent.catch((cause: unknown) => {
    throw interrupted(signal, cause);
  });
  if (response.ok) return response;
  const { code, message } = errorIn(await response.json().catch(() => null));
  // Only a refusal of this kind of request means that the model cannot fill in; the rest is our own mistake.
  const cannot = response.status === 400 && /fim|infill/i.test(`${code} ${message}`);
  const kind = cannot ? 'no_fim' : (KINDS[response.status] ?? 'failed');
  const retryAfterMs = retryAfterOf(response.headers);
  throw new InfillFailure(kind, `${message || 'the mesh refused'} (HTTP ${response.status})`, { retryAfterMs });
}

/** Null: it does not say, or says a date. */
function retryAfterOf(headers: Headers): number | null {
  const seconds = Number(headers.get('retry-after') ?? Number.NaN);
  return seconds >= 0 ? seconds * 1_000 : null;
}

/** Of OpenAI's form of an error. */
function errorIn(body: unknown): { code: string; message: string } {
  const { error } = (body ?? {}) as { error?: { code?: unknown; message?: unknown } };
  return {
    code: String(error?.code ?? ''),
    message: String(error?.message ?? '').slice(0, MESSAGE_CHARS_MAX),
  };
}

function interrupted(signal: AbortSignal, cause: unknown): InfillFailure {
  if (cause instanceof InfillFailure) return cause;
  const { reason } = signal;
  if (signal.aborted && reason instanceof DOMException && reason.name === 'TimeoutError')
    return new InfillFailure('timeout', `the mesh did not answer within ${CALL_MS_MAX} ms`, { cause });
  if (signal.aborted) return new InfillFailure('cancelled', 'cancelled', { cause });
  // A browser does not tell a mesh that is not there from one that does not let this page read.
  const message =
    'the mesh does not answer; is it running, and does QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS name this page?';
  return new InfillFailure('offline', message, { cause });
}

function bodyOf(query: InfillQuery): Record<string, unknown> {
  return {
    ...(query.model !== '' && { model: query.model }),
    request_id: query.requestId,
    supersede_key: query.supersedeKey,
    priority_class: query.priority,
    input_prefix: query.prefix,
    input_suffix: query.suffix,
    language_id: query.languageId,
    input_extra: query.chunks.map(({ path, text }) => ({ filename: path, text })),
    n_predict: query.maxTokens,
    n_cmpl: query.candidates,
    temperature: query.temperature,
    t_max_predict_ms: query.softDeadlineMs,
    // Several lines the mesh ends with their block by itself.
    ...(query.singleLine && { stop: ['\n'] }),
    stream: true,
  };
}

async function* infill(call: Call, query: InfillQuery, signal: AbortSignal): AsyncGenerator<InfillEvent> {
  if (signal.aborted) throw new InfillFailure('cancelled', 'cancelled before it was sent');
  const response = await call('/infill', query.traceId, bodyOf(query), signal);
  const { body } = response;
  if (!body) throw new InfillFailure('failed', 'expected events, got an answer without a body');
  let open = query.candidates;
  try {
    yield { kind: 'accepted', traceId: response.headers.get('x-trace-id') ?? query.traceId };
    for await (const data of eventData(body)) {
      const event = eventOf(data);
      if (event === null) continue;
      yield event;
      if (event.kind === 'finished') open -= 1;
    }
  } catch (cause) {
    throw interrupted(signal, cause);
  } finally {
    if (!body.locked) await body.cancel().catch(() => undefined); // whoever leaves early frees the place at the engine
  }
  if (open > 0) throw new InfillFailure('offline', 'the mesh went away in the middle of its answer');
  yield { kind: 'end', superseded: false };
}

type Told = { index?: number; content?: string; stop?: boolean; stop_type?: string; error?: unknown };

function toldBy(data: string): Told {
  try {
    return JSON.parse(data) as Told;
  } catch (cause) {
    throw new InfillFailure('failed', 'expected an event of JSON, got another text: is this address a mesh?', {
      cause,
    });
  }
}

/** Null for what says nothing. Throws InfillFailure for an error in the stream. */
function eventOf(data: string): InfillEvent | null {
  if (data === '[DONE]') return null;
  const told = toldBy(data);
  if (told.error !== undefined) throw new InfillFailure('failed', errorIn(told).message || 'the mesh failed');
  const index = told.index ?? 0;
  if (told.stop === true) return { kind: 'finished', index, cut: told.stop_type === 'limit', scopeEnded: false };
  return told.content ? { kind: 'delta', index, text: told.content } : null;
}

type ModelObject = { id?: string; quern?: { ready?: boolean; fim_family?: string } };

async function capabilities(call: Call, model: string, signal: AbortSignal): Promise<Capabilities> {
  const response = await call('/v1/models', newTraceId(), null, withTimeout(signal));
  const { data = [] } = (await response.json()) as { data?: ModelObject[] };
  const found = data.find(({ id }) => id === model) ?? (model === '' && data.length === 1 ? data[0] : undefined);
  const { ready = false, fim_family: fimFamily = '' } = found?.quern ?? {};
  // HTTP does not tell the vocabulary's hash. A model that is ready has one, and is known by its name instead.
  const tokenizerHash = ready ? `http:${found?.id}` : '';
  return { infill: fimFamily !== '', fimFamily, tokenizerHash, chunksMax: CHUNKS_MAX, endings: [] };
}
