// One request to the outside, with every redirect checked like the first URL. A name is resolved once; when any of its addresses
// is not public it is not dialled at all; the address that was checked is the one that is dialled.
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import { QuernError } from '#kit/errors.ts';
import {
  FETCH_ADDRESSES_MAX,
  FETCH_BODY_BYTES_MAX,
  FETCH_HEADERS_BYTES_MAX,
  FETCH_REDIRECTS_MAX,
} from '../tool-limits.ts';
import { isPublicAddress } from './address-rules.ts';
import { pinnedRequest } from './pinned-request.ts';
import { checkUrl, type EgressRules } from './url-rules.ts';

export type FetchRequest = {
  readonly url: string;
  readonly method: 'GET' | 'HEAD';
  readonly headers: Readonly<Record<string, string>>;
  /** Of the decoded body; more is cut off. */
  readonly bytesMax: number;
};

export type FetchAnswer = {
  readonly status: number;
  /** After redirects. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly cut: boolean;
};

export type EgressSettings = EgressRules & {
  /** Headers that the host adds for an origin, such as a token; the tool never sees them. */
  readonly credentials: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** For tests alone: addresses that may be dialled although they are not public. */
  readonly testAddresses: readonly string[];
};

export type Resolve = (host: string) => Promise<readonly string[]>;

function refuse(message: string): QuernError {
  return new QuernError('PERMISSION_DENIED', message, { reason: 'EGRESS_DENIED' });
}

/** The address to dial for a host of a checked URL. Throws when the name has one that may not be dialled. */
export async function addressOf(host: string, settings: EgressSettings, resolve: Resolve): Promise<string> {
  const literal = host.replace(/^\[|\]$/g, '');
  const addresses = isIP(literal) ? [literal] : await resolve(host);
  if (addresses.length === 0) throw new QuernError('UNAVAILABLE', `${host} has no address`);
  if (addresses.length > FETCH_ADDRESSES_MAX) throw refuse(`${host} has more than ${FETCH_ADDRESSES_MAX} addresses`);
  for (const address of addresses) {
    if (!isPublicAddress(address) && !settings.testAddresses.includes(address)) {
      throw refuse(`${host} leads to ${address}, which is not a public address`);
    }
  }
  return addresses[0]!;
}

/** Sends one request to one address; the name stays what the server's certificate must have. */
function send(
  url: URL,
  address: string,
  { method, headers }: FetchRequest,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options = { method, headers, signal, maxHeaderSize: FETCH_HEADERS_BYTES_MAX };
    const request = pinnedRequest(url, address, options);
    request.on('response', resolve);
    request.on('upgrade', (_, socket) => socket.destroy());
    request.on('error', reject);
    request.end();
  });
}

const DECODERS: Record<string, (() => NodeJS.ReadWriteStream & Readable) | undefined> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

/** RFC 9110, 6.4.1 and 15.4.5: headers may tell the encoding of a body that does not come, and no bytes are no whole gzip. */
function hasBody({ statusCode, headers }: IncomingMessage, method: string): boolean {
  return method !== 'HEAD' && statusCode !== 204 && statusCode !== 304 && headers['content-length'] !== '0';
}

/** The body, decoded as it comes, so that a small one that unpacks to gigabytes is cut like a large one. */
async function readBody(response: IncomingMessage, bytesMax: number): Promise<{ body: Buffer; cut: boolean }> {
  const encoding = response.headers['content-encoding']?.toLowerCase() ?? 'identity';
  const decoder = DECODERS[encoding];
  if (!decoder && encoding !== 'identity') {
    response.destroy();
    throw new QuernError(
      'UNAVAILABLE',
      `the answer has the encoding ${JSON.stringify(encoding.slice(0, 40))}, which is not known`,
    );
  }
  const source: Readable = decoder ? pipeline(response, decoder(), () => undefined) : response;
  const parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of source as AsyncIterable<Buffer>) {
    parts.push(chunk.subarray(0, bytesMax - size));
    size += chunk.length;
    if (size > bytesMax) {
      response.destroy();
      return { body: Buffer.concat(parts), cut: true };
    }
  }
  return { body: Buffer.concat(parts), cut: false };
}

function headersOf(response: IncomingMessage): Record<string, string> {
  const shown = ['content-type', 'content-length', 'last-modified', 'etag', 'location', 'date'];
  return Object.fromEntries(
    shown.flatMap((name) => (response.headers[name] ? [[name, String(response.headers[name])]] : [])),
  );
}

const REDIRECTS = [301, 302, 303, 307, 308];
const SENT_ALWAYS = { 'accept-encoding': 'gzip, deflate, br', 'user-agent': 'quern' };

/**
 * Fetches a URL. Throws PERMISSION_DENIED, reason EGRESS_DENIED, for what the rules forbid, also in a redirect; UNAVAILABLE when the
 * other side cannot be reached or does not speak HTTP.
 */
export async function guardedFetch(
  wanted: FetchRequest,
  settings: EgressSettings,
  { resolve, signal }: { resolve: Resolve; signal: AbortSignal },
): Promise<FetchAnswer> {
  const bytesMax = Math.min(wanted.bytesMax, FETCH_BODY_BYTES_MAX);
  let url = checkUrl(wanted.url, settings);
  const first = url.origin;
  for (let redirects = 0; ; redirects++) {
    const address = await addressOf(url.hostname, settings, resolve);
    signal.throwIfAborted();
    // What the caller gave for one origin does not go to another; ours belong to their origin.
    const given = url.origin === first ? wanted.headers : onlyPlain(wanted.headers);
    const headers = { ...given, ...SENT_ALWAYS, ...(settings.credentials[url.origin] ?? {}) };
    const response = await send(url, address, { ...wanted, headers }, signal);
    const status = response.statusCode ?? 0;
    const { location } = response.headers;
    if (!REDIRECTS.includes(status) || location === undefined) {
      const isThere = hasBody(response, wanted.method);
      if (!isThere) response.resume();
      const { body, cut } = isThere ? await readBody(response, bytesMax) : { body: Buffer.alloc(0), cut: false };
      return { status, url: url.href, headers: headersOf(response), body, cut };
    }
    response.destroy();
    if (redirects >= FETCH_REDIRECTS_MAX) throw refuse(`more than ${FETCH_REDIRECTS_MAX} redirects`);
    const target = URL.parse(location, url.href);
    if (!target) throw new QuernError('UNAVAILABLE', 'the answer redirects to what is no URL');
    url = checkUrl(target.href, settings);
  }
}

const onlyPlain = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).filter(([name]) => ['accept', 'accept-language'].includes(name.toLowerCase())),
  );
