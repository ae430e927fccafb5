// One HTTP request on its way: what handlers know about it, and how they answer.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { QuernError } from '#kit/errors.ts';
import type { Principal } from '#kit/principal.ts';
import type { TraceContext } from '#kit/trace.ts';
import type { Caller } from '../generation-events.ts';
import { TIMEOUT_MS_MAX } from '../limits.ts';

export type Exchange = {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly principal: Principal;
  readonly trace: TraceContext;
  /** The caller's x-request-id when it is fit to be one, else one of ours; in the answer's head already. */
  readonly requestId: string;
  /** Aborts when the client is gone. */
  readonly signal: AbortSignal;
  /** The part of the path that the route left open. */
  readonly parameter: string;
  /** Parsed JSON of a POST. */
  readonly body: unknown;
};

export type Handler = (exchange: Exchange) => Promise<void> | void;

export function callerOf(exchange: Exchange): Caller {
  const { principal, trace, signal, request } = exchange;
  return { principal, trace, signal, client: request.socket.remoteAddress };
}

/** Answers with JSON and the status 200. */
export function sendJson(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  if (response.destroyed) return;
  const text = JSON.stringify(value);
  const size = String(Buffer.byteLength(text));
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': size, ...headers }).end(text);
}

/** x-request-timeout-ms, null without it. Throws INVALID_ARGUMENT. */
export function requestTimeoutMs(request: IncomingMessage): number | null {
  const text = request.headers['x-request-timeout-ms'];
  if (text === undefined) return null;
  const value = /^\d{1,9}$/.test(String(text)) ? Number(text) : 0;
  if (value >= 1 && value <= TIMEOUT_MS_MAX) return value;
  const description = `expected an integer 1..${TIMEOUT_MS_MAX}, got "${String(text).slice(0, 64)}"`;
  const fields = [{ field: 'x-request-timeout-ms', description }];
  throw new QuernError('INVALID_ARGUMENT', `x-request-timeout-ms: ${description}`, { fields });
}
