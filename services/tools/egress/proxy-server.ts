// The way out for commands in the sandbox with `network: proxy`: an HTTP proxy on a Unix socket, under the same rules as http_fetch.
// CONNECT gives a tunnel to an allowed host and port; plain requests are made here. What goes through a tunnel is not looked at.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { QuernError } from '#kit/errors.ts';
import {
  FETCH_HEADERS_BYTES_MAX,
  PROXY_CONNECTIONS_MAX,
  PROXY_IDLE_MS,
  PROXY_TRAFFIC_BYTES_MAX,
  PROXY_WALL_MS,
} from '../tool-limits.ts';
import { addressOf, type EgressSettings, type Resolve } from './guarded-fetch.ts';
import { pinnedRequest } from './pinned-request.ts';
import { checkUrl } from './url-rules.ts';

/** RFC 9110 §7.6.1: of one connection, never passed on. */
const HOP_BY_HOP = new Set([
  ...['connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade', 'host'],
]);

function forwarded(headers: NodeJS.Dict<string | string[]>): Record<string, string | string[]> {
  const named = String(headers.connection ?? '')
    .toLowerCase()
    .split(',')
    .map((name) => name.trim());
  const kept = Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name) && !named.includes(name));
  return Object.fromEntries(kept) as Record<string, string | string[]>;
}

/** What a command is told: the rule that was broken, or that the other side is not there; nothing of this machine. */
function refusalOf(error: unknown): { status: 403 | 502; text: string } {
  if (error instanceof QuernError && error.code === 'PERMISSION_DENIED') return { status: 403, text: error.message };
  return { status: 502, text: 'the other side cannot be reached' };
}

/** Ends both sides with either, when nothing moves for long, too long, or too much. */
function limitTunnel(inner: Duplex, outer: Socket): void {
  const end = (): void => {
    clearTimeout(timer);
    inner.destroy();
    outer.destroy();
  };
  const timer = setTimeout(end, PROXY_WALL_MS);
  let bytes = 0;
  const count = (data: Buffer): void => {
    bytes += data.length;
    if (bytes > PROXY_TRAFFIC_BYTES_MAX) end();
  };
  outer.setTimeout(PROXY_IDLE_MS, end);
  for (const side of [inner, outer]) {
    side.on('data', count);
    side.on('close', end);
    side.on('error', end);
  }
}

async function tunnel(
  request: IncomingMessage,
  inner: Duplex,
  head: Buffer,
  settings: EgressSettings,
  resolve: Resolve,
): Promise<void> {
  inner.on('error', () => inner.destroy());
  try {
    const authority = /^(\[[0-9a-f:.]+\]|[^:/?#@\\]+):(\d{1,5})$/i.exec(request.url ?? '');
    if (!authority) throw new QuernError('PERMISSION_DENIED', 'expected CONNECT host:port');
    const url = checkUrl(`${authority[2] === '80' ? 'http' : 'https'}://${request.url}/`, settings);
    const address = await addressOf(url.hostname, settings, resolve);
    const outer = connect({ host: address, port: Number(authority[2]) });
    await new Promise<void>((connected, failed) => {
      outer.once('connect', connected);
      outer.once('error', failed);
    });
    limitTunnel(inner, outer);
    inner.write('HTTP/1.1 200 Connection Established\r\n\r\n');
    if (head.length > 0) outer.write(head);
    inner.pipe(outer);
    outer.pipe(inner);
  } catch (error) {
    const { status, text } = refusalOf(error);
    inner.end(`HTTP/1.1 ${status} Refused\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\negress: ${text}\n`);
  }
}

async function relay(
  request: IncomingMessage,
  response: ServerResponse,
  settings: EgressSettings,
  resolve: Resolve,
): Promise<void> {
  try {
    const url = checkUrl(request.url ?? '', settings);
    if (url.protocol !== 'http:') throw new QuernError('PERMISSION_DENIED', 'expected CONNECT for https');
    const address = await addressOf(url.hostname, settings, resolve);
    // The name in the request is the one that was checked, whatever the command wrote as Host.
    const headers = { ...forwarded(request.headers), host: url.host };
    const options = {
      method: request.method ?? 'GET',
      headers,
      maxHeaderSize: FETCH_HEADERS_BYTES_MAX,
    };
    await new Promise<void>((done, failed) => {
      const outgoing = pinnedRequest(url, address, options).on('response', (answer) => {
        let bytes = 0;
        answer.on('data', (data: Buffer) => {
          bytes += data.length;
          if (bytes > PROXY_TRAFFIC_BYTES_MAX) outgoing.destroy(new Error('too much'));
        });
        try {
          response.writeHead(answer.statusCode ?? 502, { ...forwarded(answer.headers), connection: 'close' });
        } catch (error) {
          outgoing.destroy(); // a status or a field that the parser lets pass and that may not be sent, such as 099
          return failed(error);
        }
        answer.pipe(response);
        answer.on('error', failed);
        response.on('finish', done);
      });
      const timer = setTimeout(() => outgoing.destroy(new Error('too long')), PROXY_WALL_MS);
      outgoing.on('error', failed);
      outgoing.on('close', () => clearTimeout(timer));
      outgoing.setTimeout(PROXY_IDLE_MS, () => outgoing.destroy(new Error('no answer')));
      response.on('close', () => {
        outgoing.destroy();
        done();
      });
      request.pipe(outgoing);
    });
  } catch (error) {
    const { status, text } = refusalOf(error);
    if (response.headersSent) response.destroy();
    else response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(`egress: ${text}\n`);
  }
}

/** A proxy that does not listen yet. */
export function createProxyServer(settings: EgressSettings, resolve: Resolve): Server {
  const server = createServer({ maxHeaderSize: FETCH_HEADERS_BYTES_MAX, requestTimeout: PROXY_WALL_MS });
  server.maxConnections = PROXY_CONNECTIONS_MAX;
  server.on('connect', (request, socket, head) => void tunnel(request, socket, head, settings, resolve));
  server.on('request', (request, response) => void relay(request, response, settings, resolve));
  server.on('clientError', (_, socket) => socket.destroy());
  return server;
}
