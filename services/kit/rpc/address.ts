// Addresses as they stand in configuration: 'unix:///path/to/socket' or 'host:port'.
import { QuernError } from '#kit/errors.ts';

export type Address = { kind: 'unix'; path: string } | { kind: 'tcp'; host: string; port: number };

function refuse(text: string): never {
  const message = `address: expected unix:///path or host:port (port 0..65535, 0 takes a free one), got "${text}"`;
  throw new QuernError('INVALID_ARGUMENT', message, { reason: 'BAD_ADDRESS' });
}

/** Throws INVALID_ARGUMENT, reason BAD_ADDRESS. An IPv6 host stands in brackets. */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix:')) {
    const path = text.replace(/^unix:(?:\/\/)?/, '');
    return path.startsWith('/') ? { kind: 'unix', path } : refuse(text);
  }
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]/\s]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65535) return refuse(text);
  return { kind: 'tcp', host: match[1]!, port };
}

export function formatAddress(address: Address): string {
  return address.kind === 'unix' ? `unix://${address.path}` : `${address.host}:${address.port}`;
}

/** True when only processes of this machine can reach it. */
export function isLocal(address: Address): boolean {
  if (address.kind === 'unix') return true;
  const { host } = address;
  return host === 'localhost' || host === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}
