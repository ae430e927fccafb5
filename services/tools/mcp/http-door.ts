// The only way out for a remote MCP server: to the origin that the pack names, by the egress guard's rules for addresses, with the
// credentials of a file of the host, and with a bound on every answer.
import { open } from 'node:fs/promises';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { Readable, Transform } from 'node:stream';
import type { FetchLike } from '@modelcontextprotocol/sdk/shared/transport.js';
import { QuernError } from '#kit/errors.ts';
import { isPublicAddress } from '../egress/address-rules.ts';
import type { Resolve } from '../egress/guarded-fetch.ts';
import { pinnedRequest } from '../egress/pinned-request.ts';
import { checkUrl } from '../egress/url-rules.ts';
import { FETCH_ADDRESSES_MAX } from '../tool-limits.ts';
import { MCP_CONNECT_MS, MCP_HEADERS_BYTES_MAX, MCP_MESSAGE_BYTES_MAX, MCP_RESPONSE_BYTES_MAX } from './limits.ts';
import type { HttpServer } from './server-spec.ts';

const HEADER = /^([A-Za-z0-9-]{1,64}):[ \t]*([\x20-\x7e]{1,8192})$/;
/** Framing is ours, and the transport's own headers are the protocol's. */
const OWN_HEADERS = /^(?:host|connection|content-.*|transfer-encoding|accept.*|mcp-.*|te|upgrade|expect)$/i;

function refuse(message: string): QuernError {
  return new QuernError('PERMISSION_DENIED', message, { reason: 'EGRESS_DENIED' });
}

/** "Name: value" per line; blank lines and those with # at their start say nothing. The values never stand in an error. */
export async function readHeadersFile(path: string): Promise<Record<string, string>> {
  const invalid = (what: string): QuernError => new QuernError('FAILED_PRECONDITION', `headers_file ${path}: ${what}`);
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw invalid(`cannot be read (${error.code})`);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.size > MCP_HEADERS_BYTES_MAX) {
      throw invalid(`expected a file of at most ${MCP_HEADERS_BYTES_MAX} bytes`);
    }
    const lines = (await file.readFile('utf8')).split('\n').map((line) => line.trim());
    const headers: Record<string, string> = {};
    for (const [i, line] of lines.entries()) {
      if (line === '' || line.startsWith('#')) continue;
      const [, name, value] = HEADER.exec(line) ?? [];
      if (name === undefined || value === undefined) throw invalid(`line ${i + 1}: expected "Name: value"`);
      if (OWN_HEADERS.test(name)) throw invalid(`line ${i + 1}: the header ${name} is not for a file to set`);
      headers[name.toLowerCase()] = value;
    }
    return headers;
  } finally {
    await file.close();
  }
}

/** The address to dial. One that may not be dialled among several means none is. */
async function addressOf({ url, allowPrivate }: HttpServer, resolve: Resolve): Promise<string> {
  const port = url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port);
  const { hostname } = checkUrl(url.href, { allow: [url.hostname], ports: [port] });
  const literal = hostname.replace(/^\[|\]$/g, '');
  const addresses = isIP(literal) ? [literal] : await resolve(hostname);
  if (addresses.length === 0) throw new QuernError('UNAVAILABLE', `${hostname} has no address`);
  if (addresses.length > FETCH_ADDRESSES_MAX)
    throw refuse(`${hostname} has more than ${FETCH_ADDRESSES_MAX} addresses`);
  const isRefused = (address: string): boolean => !allowPrivate && !isPublicAddress(address);
  const refused = addresses.find(isRefused);
  if (refused === undefined) return addresses[0]!;
  throw refuse(`${hostname} leads to ${refused}, which is not a public address; allow_private: true lets it`);
}

function send(
  url: URL,
  address: string,
  init: { method: string; headers: Record<string, string>; body: string | null },
) {
  const { method, headers, body } = init;
  const request = pinnedRequest(url, address, { method, headers, maxHeaderSize: MCP_HEADERS_BYTES_MAX });
  request.end(body ?? undefined);
  return request;
}

function answerOf(request: ClientRequest, signal: AbortSignal): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const onAbort = (): void => void request.destroy(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  request.setTimeout(MCP_CONNECT_MS, () => {
    // An open stream may be silent; a server that does not even connect may not.
    if (request.socket?.connecting !== false) request.destroy(new Error(`no connection within ${MCP_CONNECT_MS} ms`));
  });
  request.on('response', (response) => {
    response.on('close', () => signal.removeEventListener('abort', onAbort));
    resolve(response);
  });
  request.on('upgrade', (_, socket) => {
    socket.destroy();
    reject(new Error('the server wants another protocol'));
  });
  request.on('error', (error) => {
    signal.removeEventListener('abort', onAbort);
    reject(error);
  });
  return promise;
}

function bounded(response: IncomingMessage, onBytes: (bytes: number) => void): Readable {
  let bytes = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length;
      onBytes(chunk.length);
      if (bytes > MCP_RESPONSE_BYTES_MAX) done(new Error(`an answer of more than ${MCP_RESPONSE_BYTES_MAX} bytes`));
      else done(null, chunk);
    },
  });
  response.on('error', (error) => counter.destroy(error));
  response.on('close', () => void (response.complete || counter.destroy(new Error('the connection broke'))));
  counter.on('close', () => response.destroy());
  counter.on('error', () => {}); // whoever reads it is told
  return response.pipe(counter);
}

function headersOf(response: IncomingMessage): [string, string][] {
  const shown = ['content-type', 'mcp-session-id', 'location', 'retry-after'];
  return shown.flatMap((name) => (response.headers[name] ? [[name, String(response.headers[name])]] : []));
}

/**
 * A fetch for the SDK's transport that reaches one origin. No stream without a request: what the server wants to say it says with an
 * answer. Rejects PERMISSION_DENIED, reason EGRESS_DENIED, for what the rules forbid.
 */
export function createHttpDoor(
  server: HttpServer,
  options: {
    readonly resolve: Resolve;
    readonly credentials: Readonly<Record<string, string>>;
    readonly signal: AbortSignal;
    readonly onBytes: (bytes: number) => void;
  },
): FetchLike {
  const { resolve, credentials, signal, onBytes } = options;
  return async (wanted, init = {}) => {
    const url = new URL(wanted);
    if (url.origin !== server.url.origin)
      throw refuse(`an MCP server leads to ${url.origin}; only its own origin is asked`);
    const method = init.method ?? 'GET';
    if (method === 'GET') return new Response(null, { status: 405 });
    const body = typeof init.body === 'string' ? init.body : null;
    if (body !== null && Buffer.byteLength(body) > MCP_MESSAGE_BYTES_MAX) {
      throw new QuernError('INVALID_ARGUMENT', `expected a message of at most ${MCP_MESSAGE_BYTES_MAX} bytes`);
    }
    const given = Object.fromEntries(new Headers(init.headers).entries());
    const headers = { ...given, 'accept-encoding': 'identity', 'user-agent': 'quern', ...credentials };
    const address = await addressOf(server, resolve);
    signal.throwIfAborted();
    const response = await answerOf(send(url, address, { method, headers, body }), signal);
    const encoding = response.headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity') {
      response.destroy();
      throw new Error(`an answer in the encoding ${JSON.stringify(encoding.slice(0, 40))}, which was not asked for`);
    }
    const status = response.statusCode ?? 0;
    const isEmpty = [204, 205, 304].includes(status);
    if (isEmpty || status < 200) response.resume();
    const stream = isEmpty ? null : (Readable.toWeb(bounded(response, onBytes)) as unknown as ReadableStream);
    return new Response(stream, { status: Math.max(200, status), headers: headersOf(response) });
  };
}
