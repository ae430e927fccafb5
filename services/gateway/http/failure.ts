// Refusals as OpenAI-style bodies. Most are QuernErrors; the few that only HTTP knows have their own status here.
import type { ServerResponse } from 'node:http';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { toHttpError } from '#kit/rpc/status.ts';

/** An HTTP status that no gRPC code maps to. */
export class HttpFailure extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Record<string, string>;

  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export type Failure = { status: number; headers: Record<string, string>; body: { error: Record<string, unknown> } };

export function failureOf(thrown: unknown): Failure {
  if (thrown instanceof HttpFailure) {
    const type = thrown.status === 403 ? 'permission_error' : 'invalid_request_error';
    const headers = { 'content-type': 'application/json', ...thrown.headers };
    return {
      status: thrown.status,
      headers,
      body: { error: { message: thrown.message, type, param: null, code: thrown.code } },
    };
  }
  return toHttpError(thrown);
}

/**
 * The same within a stream, whose head said that all is well: what status and headers would have said stands beside it, and `code` is
 * never null.
 */
export function failureEvent(thrown: unknown): { error: Record<string, unknown> } {
  const { status, body } = failureOf(thrown);
  if (thrown instanceof HttpFailure) return { error: { ...body.error, status } };
  const { code, details } = toQuernError(thrown);
  const retry =
    details.retryAfterMs === undefined ? {} : { retry_after_ms: Math.max(0, Math.ceil(details.retryAfterMs)) };
  return { error: { ...body.error, code: body.error.code ?? code.toLowerCase(), status, ...retry } };
}

/** Answers with the error unless an answer has begun. A client that went away is told nothing. */
export function sendFailure(response: ServerResponse, thrown: unknown): void {
  if (response.headersSent || response.destroyed) return;
  const { status, headers, body } = failureOf(thrown);
  const text = JSON.stringify(body);
  response.writeHead(status, { ...headers, 'content-length': String(Buffer.byteLength(text)) }).end(text);
}

export function isClientGone(thrown: unknown): boolean {
  return thrown instanceof QuernError && thrown.details.reason === 'CLIENT_GONE';
}
