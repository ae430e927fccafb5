/** One call of the mesh's HTTP API: its head, its time, and why it has no answer. */
import { type FailureKind, InfillFailure } from '../../lsp/core/infill-source.ts';
import { traceparentOf } from '../../lsp/core/trace-id.ts';

export type HttpTarget = {
  /** http://127.0.0.1:8000 or https://…, without a slash at the end. */
  url: string;
  apiKey: string | null;
};

/** A body is posted, null is fetched. Throws InfillFailure for everything but an answer that says yes. */
export type Call = (path: string, traceId: string, body: object | null, signal: AbortSignal) => Promise<Response>;

/** Of a call that generates nothing: a mesh that takes longer is not there. */
const CALL_MS_MAX = 10_000;
/** What the mesh adds to what a message says is of no use to a reader beyond this. */
const MESSAGE_CHARS_MAX = 300;

const KINDS: Readonly<Record<number, FailureKind>> = {
  401: 'unauthenticated',
  403: 'unauthenticated',
  408: 'timeout',
  429: 'overloaded',
  499: 'cancelled',
  502: 'offline',
  503: 'offline',
  504: 'timeout',
};

/** `fetchNow` is the platform's fetch; `closed` ends all calls. */
export function openCall(target: HttpTarget, closed: AbortSignal, fetchNow: typeof fetch): Call {
  return async (path, traceId, body, signal) => {
    const headers = headersOf(target, traceId, body !== null);
    const method = body === null ? 'GET' : 'POST';
    const all = AbortSignal.any([signal, closed]);
    const content = body === null ? {} : { body: JSON.stringify(body) };
    const sent = fetchNow(`${target.url}${path}`, { method, headers, signal: all, ...content });
    const response = await sent.catch((cause: unknown) => {
      throw interrupted(all, cause);
    });
    if (response.ok) return response;
    throw await refusal(path, response);
  };
}

export const withTimeout = (signal: AbortSignal): AbortSignal =>
  AbortSignal.any([signal, AbortSignal.timeout(CALL_MS_MAX)]);

function headersOf({ apiKey }: HttpTarget, traceId: string, withBody: boolean): Record<string, string> {
  return {
    traceparent: traceparentOf(traceId),
    ...(withBody && { 'content-type': 'application/json' }),
    ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
  };
}

async function refusal(path: string, response: Response): Promise<InfillFailure> {
  const { code, message } = errorIn(await response.json().catch(() => null));
  // Only a refusal of this kind of request means that the model cannot fill in; the rest is our own mistake.
  const cannot = path === '/infill' && response.status === 400 && /fim|infill/i.test(`${code} ${message}`);
  const kind = cannot ? 'no_fim' : (KINDS[response.status] ?? 'failed');
  const retryAfterMs = retryAfterOf(response.headers);
  return new InfillFailure(kind, `${message || 'the mesh refused'} (HTTP ${response.status})`, { retryAfterMs });
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

/** An error in the middle of a stream. It says the status that it would have had; of an older mesh only its type tells something. */
export function failureIn(event: { error?: unknown }): InfillFailure {
  const { code, message } = errorIn(event);
  const { status, type, retry_after_ms: after } = (event.error ?? {}) as Record<string, unknown>;
  const fallback = type === 'rate_limit_error' ? 'overloaded' : 'failed';
  const kind = KINDS[Number(status)] ?? fallback;
  const said = `${message || 'the mesh failed'}${code === '' ? '' : ` (${code})`}`;
  return new InfillFailure(kind, said, { retryAfterMs: typeof after === 'number' && after >= 0 ? after : null });
}

/** Why a call, or the body of its answer, broke off. */
export function interrupted(signal: AbortSignal, cause: unknown): InfillFailure {
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
