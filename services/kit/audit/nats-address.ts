// Where NATS is and who we are there, from one text: 'nats://user:password@host:port', several separated by commas.
import { QuernError } from '#kit/errors.ts';

export type NatsAddress = {
  servers: string[];
  /** For logs and messages: without credentials. */
  shown: string;
  /** As the client library takes them. A name without a password is a token. */
  auth: { user?: string; pass?: string; token?: string; tls?: Record<string, never> };
};

const SCHEMES = ['nats:', 'tls:'];

function parseOne(text: string): URL {
  // URL gives a host only to schemes that it knows.
  const url = URL.parse(text.replace(/^(nats|tls):/, 'http:'));
  const scheme = /^([a-z]+:)\/\//.exec(text)?.[1] ?? '';
  if (url && SCHEMES.includes(scheme) && url.hostname !== '' && /^\/?$/.test(url.pathname)) return url;
  const shown = text.replace(/\/\/[^@]*@/, '//…@');
  throw new QuernError(
    'INVALID_ARGUMENT',
    `NATS address: expected nats://HOST:PORT or tls://HOST:PORT, got "${shown}"`,
    {
      reason: 'NATS_ADDRESS_INVALID',
    },
  );
}

/** Throws INVALID_ARGUMENT. Credentials may stand at any of the servers; the first ones count for all. */
export function parseNatsAddress(text: string): NatsAddress {
  const parts = text.split(',').map((one) => one.trim());
  const urls = parts.map(parseOne);
  const servers = urls.map(({ host }, i) => `${parts[i]!.startsWith('tls:') ? 'tls' : 'nats'}://${host}`);
  const named = urls.find(({ username }) => username !== '');
  const shown = servers.join(',');
  const tls = servers.some((server) => server.startsWith('tls:')) ? { tls: {} } : {};
  if (!named) return { servers, shown, auth: tls };
  const [user, pass] = [decodeURIComponent(named.username), decodeURIComponent(named.password)];
  return { servers, shown, auth: { ...tls, ...(pass === '' ? { token: user } : { user, pass }) } };
}
