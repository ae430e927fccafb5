// What a URL must be before its name is looked up.
import { isIP } from 'node:net';
import { QuernError } from '#kit/errors.ts';
import { FETCH_URL_CHARS_MAX } from '../tool-limits.ts';

export type EgressRules = {
  /** Names ("api.example.com") and endings of labels ("*.example.com"). Empty: nothing may be fetched. */
  readonly allow: readonly string[];
  readonly ports: readonly number[];
};

function refuse(message: string): QuernError {
  return new QuernError('PERMISSION_DENIED', message, { reason: 'EGRESS_DENIED' });
}

/** On whole labels: "*.example.com" is any name below example.com, not example.com itself, not badexample.com. */
export function isAllowedHost(host: string, allow: readonly string[]): boolean {
  return allow.some((rule) => {
    const name = rule.toLowerCase();
    if (!name.startsWith('*.')) return host === name;
    const ending = name.slice(1);
    return host.length > ending.length && host.endsWith(ending);
  });
}

/** An entry of the allow-list; null: fine, else what is wrong. */
export function allowRuleProblem(rule: string): string | null {
  const isName = /^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i.test(
    rule,
  );
  const isAddress = isIP(rule) === 4 || (/^\[.*\]$/.test(rule) && isIP(rule.slice(1, -1)) === 6);
  return isName || isAddress ? null : `expected a host name or "*." and one, got ${JSON.stringify(rule)}`;
}

/** The URL, normalised. Throws PERMISSION_DENIED, reason EGRESS_DENIED, with what is not allowed about it. */
export function checkUrl(text: string, { allow, ports }: EgressRules): URL {
  if (text.length > FETCH_URL_CHARS_MAX) throw refuse(`the URL is longer than ${FETCH_URL_CHARS_MAX} characters`);
  const url = URL.parse(text);
  if (!url) throw refuse('this is no URL');
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw refuse(`expected http or https, got ${url.protocol}`);
  if (url.username !== '' || url.password !== '') throw refuse('a URL with a user name or password is not fetched');
  const { hostname } = url;
  // Before matching: a NUL or other character in a name may mean another name to the resolver than to the list.
  if (!/^[a-z0-9.-]+$/.test(hostname) && !/^\[[0-9a-f:.]+\]$/.test(hostname))
    throw refuse('the host has characters that are not allowed');
  const host = hostname.replace(/\.$/, '');
  const port = url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port);
  if (!ports.includes(port)) throw refuse(`port ${port} is not allowed; expected one of ${ports.join(', ')}`);
  if (!isAllowedHost(host, allow)) {
    const list =
      allow.length === 0 ? 'nothing is: the allow-list is empty' : 'an operator can add it to the allow-list';
    throw refuse(`${host} is not allowed; ${list}`);
  }
  url.hostname = host;
  url.hash = '';
  return url;
}
