// Cross-origin calls of web pages that the operator named (https://fetch.spec.whatwg.org/#http-cors-protocol): VS Code in a
// browser is one. No cookies are involved, so no credentials are allowed; a page brings its own API key.
import type { IncomingMessage, ServerResponse } from 'node:http';

/** How long a browser may remember a preflight's answer. */
const PREFLIGHT_SECONDS = 600;

/** What a page may send, and what of an answer it may read. */
const REQUEST_HEADERS =
  'authorization, content-type, traceparent, tracestate, x-api-key, x-request-id, x-request-timeout-ms';
const RESPONSE_HEADERS = 'retry-after, x-quern-unknown-fields, x-request-id, x-trace-id';

/**
 * Lets a page of one of `origins` read the answer. True: the request was a preflight and is answered. Anything else, a page
 * that is not named included, is left to the checks that follow.
 */
export function answerCors(origins: ReadonlySet<string>, request: IncomingMessage, response: ServerResponse): boolean {
  if (origins.size === 0) return false;
  response.setHeader('vary', 'origin'); // a cache must not hand one page's answer to another
  const { origin, 'access-control-request-method': wanted } = request.headers;
  if (origin === undefined || !origins.has(origin)) return false;
  response.setHeader('access-control-allow-origin', origin);
  if (request.method !== 'OPTIONS' || wanted === undefined) {
    response.setHeader('access-control-expose-headers', RESPONSE_HEADERS);
    return false;
  }
  response.writeHead(204, {
    'access-control-allow-methods': 'GET, POST',
    'access-control-allow-headers': REQUEST_HEADERS,
    'access-control-max-age': String(PREFLIGHT_SECONDS),
    // A page from elsewhere that calls a gateway on this machine or in this network.
    ...(request.headers['access-control-request-private-network'] && {
      'access-control-allow-private-network': 'true',
    }),
  });
  response.end();
  return true;
}
