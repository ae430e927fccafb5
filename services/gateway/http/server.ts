// The HTTP front door on node:http: who may come, which handler, one error shape, no leak of a connection.
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { QuernError, toQuernError } from '#kit/errors.ts';
import { uuidv7 } from '#kit/ids.ts';
import { localPrincipal, type Principal } from '#kit/principal.ts';
import {
  ATTR_KEY_ID,
  ATTR_REASON,
  ATTR_REQUEST_ID,
  ATTR_TENANT,
  ERROR_TYPE,
  HTTP_REQUEST_METHOD,
  HTTP_RESPONSE_STATUS_CODE,
  HTTP_ROUTE,
} from '#kit/semconv.ts';
import { extract, noSpans, nowUnixNs, type Span, startRemoteSpan, startSpan } from '#kit/trace.ts';
import { bearerToken } from '../api-keys.ts';
import type { GatewayContext } from '../context.ts';
import {
  DRAIN_SWEEP_MS,
  HTTP_CHECK_MS,
  HTTP_CONNECTIONS_MAX,
  HTTP_HEADER_BYTES_MAX,
  HTTP_HEADERS_TIMEOUT_MS,
  HTTP_KEEP_ALIVE_MS,
  HTTP_REQUEST_TIMEOUT_MS,
} from '../limits.ts';
import { authorizeSpan, received } from '../stage-spans.ts';
import { REQUEST_ID } from '../typed-request.ts';
import { clientGone, parseJson, readBody } from './body.ts';
import { answerCors } from './cors.ts';
import { failureOf, HttpFailure, isClientGone, sendFailure } from './failure.ts';
import { checkOrigin, type OriginPolicy, originPolicy } from './origin-check.ts';
import { findRoute, type Route } from './routes.ts';
import { UNKNOWN_FIELDS_HEADER } from './unknown-fields.ts';

export type HttpFront = {
  /** "127.0.0.1:8000", the real port filled in. */
  readonly address: string;
  /** No new connections; resolves when those that are busy have ended, or with the signal. */
  drain(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
};

export type HttpFrontOptions = {
  host: string;
  port: number;
  loopbackOnly: boolean;
  tls?: { cert: string; key: string } | undefined;
};

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function createListener(context: GatewayContext, policy: OriginPolicy): RequestListener {
  return (request, response) => {
    const startedAt = performance.now();
    const peer = peerOf(request.socket); // gone with the connection
    const facts: RequestFacts = { path: 'none', traceId: '', peer, principal: null, span: null };
    response.once('close', () => logRequest(context, request, response, facts, startedAt));
    handle(context, policy, request, response, facts).catch((error) => {
      if (isClientGone(error)) return;
      facts.span?.set({ [ATTR_REASON]: reasonOf(error) });
      const { status } = failureOf(error);
      if (status >= 500 && status !== 503 && status !== 504) {
        context.log.error({ err: error, path: facts.path, trace_id: facts.traceId }, 'HTTP request failed');
      }
      sendFailure(response, error);
    });
  };
}

/** What is known once the request was looked at. `path` is the route's, so that logs and metrics stay small. */
type RequestFacts = { path: string; traceId: string; peer: string; principal: Principal | null; span: Span | null };

function reasonOf(error: unknown): string {
  return error instanceof HttpFailure ? error.code : toQuernError(error).details.reason;
}

/** One line per request; 499 is a client that went away. Probes and scrapes are only of interest when debugging. */
function logRequest(
  context: GatewayContext,
  request: IncomingMessage,
  response: ServerResponse,
  facts: RequestFacts,
  startedAt: number,
): void {
  const status = response.writableFinished ? response.statusCode : 499;
  const duration_ms = Math.round((performance.now() - startedAt) * 1000) / 1000;
  const { principal: caller, peer } = facts;
  const fields = {
    method: request.method,
    path: facts.path,
    status,
    duration_ms,
    peer,
    ...(facts.traceId !== '' && { trace_id: facts.traceId }),
    ...(caller && { tenant: caller.tenant, user: caller.user, key_id: caller.keyId }),
  };
  const requestId = response.getHeader('x-request-id');
  const unknown = response.getHeader(UNKNOWN_FIELDS_HEADER);
  const line = {
    ...fields,
    ...(requestId !== undefined && { request_id: requestId }),
    ...(unknown !== undefined && { unknown_fields: unknown }),
  };
  if (!caller && status < 400) context.log.debug(line, 'http');
  else context.log.info(line, 'http');
  context.metrics.httpRequest(facts.path, request.method ?? '', status);
}

/** 499 stands for a client that went away, which is no error of ours. */
function endRequestSpan(span: Span, response: ServerResponse): void {
  const status = response.writableFinished ? response.statusCode : 499;
  const requestId = response.getHeader('x-request-id');
  span.set({
    [HTTP_RESPONSE_STATUS_CODE]: status,
    ...(status >= 400 && { [ERROR_TYPE]: String(status) }),
    ...(requestId !== undefined && { [ATTR_REQUEST_ID]: String(requestId) }),
  });
  span.end({ error: status >= 500 ? String(status) : null });
}

/**
 * Who calls, and the span of the call: it continues the caller's trace when the caller was recognised. Probes and scrapes
 * come all the time and have none.
 */
function recognise(
  context: GatewayContext,
  route: Route,
  request: IncomingMessage,
  response: ServerResponse,
  facts: RequestFacts,
) {
  if (route.open) return { principal: localPrincipal, span: startSpan(noSpans, '', null) };
  const startUnixNs = nowUnixNs();
  const remote = extract(header(request, 'traceparent'), header(request, 'tracestate'));
  const begin = (trusted: boolean): Span => {
    const attributes = { [HTTP_REQUEST_METHOD]: route.method, [HTTP_ROUTE]: route.path };
    const name = `${request.method} ${route.path}`;
    const options = { kind: 'server' as const, startUnixNs, attributes };
    const span = startRemoteSpan(context.spans, name, { context: remote, trusted }, options);
    response.once('close', () => endRequestSpan(span, response));
    authorizeSpan(context.spans, span.context, startUnixNs, trusted);
    return span;
  };
  const token = bearerToken(header(request, 'authorization')) ?? header(request, 'x-api-key') ?? null;
  try {
    const principal = context.authenticate(token, request.socket.remoteAddress);
    const span = begin(true);
    span.set({ [ATTR_TENANT]: principal.tenant, [ATTR_KEY_ID]: principal.keyId });
    return { principal, span };
  } catch (error) {
    const span = begin(false);
    span.set({ [ATTR_REASON]: reasonOf(error) });
    tellTrace(span, response, facts);
    throw error;
  }
}

/** The trace of an answer, refusals included, stands in its headers and in its log line. */
function tellTrace({ context }: Span, response: ServerResponse, facts: RequestFacts): void {
  facts.traceId = context.traceId;
  response.setHeader('x-trace-id', context.traceId);
}

/** The caller's when it is fit to be one, else one of ours. */
function requestIdOf(request: IncomingMessage): string {
  const asked = header(request, 'x-request-id') ?? '';
  return REQUEST_ID.test(asked) ? asked : uuidv7();
}

/** vLLM's way to name a request. What is wrong with one that is none is said by the handler. */
function idInBody(body: unknown): string | null {
  const id = typeof body === 'object' && body !== null && 'request_id' in body ? body.request_id : null;
  return typeof id === 'string' && REQUEST_ID.test(id) ? id : null;
}

async function handle(
  context: GatewayContext,
  policy: OriginPolicy,
  request: IncomingMessage,
  response: ServerResponse,
  facts: RequestFacts,
): Promise<void> {
  // Of a foreign Host no page may read anything, so that comes first.
  checkOrigin(policy, { host: header(request, 'host'), origin: header(request, 'origin') });
  if (answerCors(policy.readers, request, response)) return;
  const { route, parameter } = findRoute(request.method ?? 'GET', request.url ?? '/');
  facts.path = route.path;
  if (context.draining() && !route.open) {
    throw new QuernError('UNAVAILABLE', 'this gateway is shutting down; another one may answer', {
      reason: 'DRAINING',
      retryAfterMs: 1_000,
    });
  }
  const requestId = requestIdOf(request);
  // From here on every answer has it, whatever becomes of the request.
  if (!route.open) response.setHeader('x-request-id', requestId);
  const { principal, span } = recognise(context, route, request, response, facts);
  facts.span = span;
  const trace = span.context;
  tellTrace(span, response, facts);
  if (!route.open) facts.principal = principal;
  const controller = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) controller.abort(clientGone(undefined));
  });
  const read = async (): Promise<unknown> => parseJson(await readBody(request));
  const body = request.method === 'POST' ? await received(context.spans, trace, read) : undefined;
  const named = idInBody(body);
  if (named !== null) response.setHeader('x-request-id', named);
  await route.handler(context)({
    request,
    response,
    principal,
    parameter,
    body,
    requestId: named ?? requestId,
    trace,
    signal: controller.signal,
  });
}

function refuseMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const failure =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new HttpFailure(431, 'headers_too_large', `the headers exceed ${HTTP_HEADER_BYTES_MAX} bytes`)
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? new HttpFailure(408, 'request_timeout', 'the request took too long to arrive')
        : new HttpFailure(400, 'bad_request', 'expected an HTTP/1.1 request');
  const text = JSON.stringify(failureOf(failure).body);
  const head = `HTTP/1.1 ${failure.status} Refused\r\ncontent-type: application/json\r\n`;
  socket.end(`${head}content-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`);
}

function build(options: HttpFrontOptions, listener: RequestListener): Server {
  const settings = {
    maxHeaderSize: HTTP_HEADER_BYTES_MAX,
    headersTimeout: HTTP_HEADERS_TIMEOUT_MS,
    requestTimeout: HTTP_REQUEST_TIMEOUT_MS,
    keepAliveTimeout: HTTP_KEEP_ALIVE_MS,
    connectionsCheckingInterval: HTTP_CHECK_MS,
    noDelay: true,
  };
  const { tls } = options;
  const server = tls ? createTlsServer({ ...settings, ...tls }, listener) : createServer(settings, listener);
  server.maxConnections = HTTP_CONNECTIONS_MAX;
  server.on('clientError', refuseMalformed);
  return server;
}

const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress}:${remotePort}`;

/**
 * Connections on which no request has begun, by peer (under TLS the socket of a request is not the one that connected).
 * Node does not count them as idle, and a browser's spare connection would hold a drain up until its grace is over.
 */
function watchSilent(server: Server): Map<string, Socket> {
  const silent = new Map<string, Socket>();
  server.on('connection', (socket: Socket) => {
    const peer = peerOf(socket);
    silent.set(peer, socket);
    socket.once('close', () => {
      if (silent.get(peer) === socket) silent.delete(peer);
    });
  });
  server.on('request', ({ socket }: IncomingMessage) => silent.delete(peerOf(socket)));
  return silent;
}

/** Listens. Throws UNAVAILABLE when the address is taken. */
export async function startHttpFront(context: GatewayContext, options: HttpFrontOptions): Promise<HttpFront> {
  const policy = originPolicy(context.allowedHosts, options.loopbackOnly, context.allowedOrigins);
  const server = build(options, createListener(context, policy));
  const silent = watchSilent(server);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const where = `${options.host}:${options.port}`;
      const message = `HTTP cannot listen on ${where}: ${cause.message}; choose another address or stop what uses it`;
      reject(new QuernError('UNAVAILABLE', message, { reason: 'LISTEN_FAILED' }, { cause }));
    });
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  let closed: Promise<void> | null = null;
  const stopListening = (): Promise<void> => {
    closed ??= new Promise((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    return closed;
  };
  return {
    address: `${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`,
    async drain(signal) {
      // A busy connection turns idle with its answer, and an idle one would hold the drain up.
      const sweep = setInterval(() => {
        server.closeIdleConnections();
        for (const socket of silent.values()) socket.destroy();
      }, DRAIN_SWEEP_MS);
      const aborted = new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
      await Promise.race([stopListening(), aborted]);
      clearInterval(sweep);
    },
    close() {
      const done = stopListening();
      server.closeAllConnections();
      return done;
    },
  };
}
