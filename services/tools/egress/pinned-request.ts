// The one way in which a request leaves: to the address that was checked, whatever the name means a moment later. The name stays what
// the server is asked for and what its certificate must have. No connection is used twice, since the next name has its own check.
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';

export type PinnedOptions = Pick<RequestOptions, 'method' | 'headers' | 'signal' | 'maxHeaderSize'>;

/** A request to `url` by http or https at `address`; the caller writes its body and ends it. */
export function pinnedRequest(url: URL, address: string, options: PinnedOptions): ClientRequest {
  const isTls = url.protocol === 'https:';
  const family = isIP(address);
  const lookup = (_: string, { all }: { all?: boolean }, done: (...result: unknown[]) => void): void =>
    all === true ? done(null, [{ address, family }]) : done(null, address, family);
  const agent = isTls ? new HttpsAgent({ keepAlive: false }) : new HttpAgent({ keepAlive: false });
  return (isTls ? httpsRequest : httpRequest)(url, { ...options, agent, lookup: lookup as never });
}
