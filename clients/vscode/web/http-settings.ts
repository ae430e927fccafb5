/** Where the mesh's HTTP API is, out of the editor's settings. */
import type { HttpTarget } from './http-source.ts';

export const DEFAULT_URL = 'http://127.0.0.1:8000';

/** What cannot be is named in `problems`, and the default stays. */
export function readTarget(given: unknown): { target: HttpTarget; problems: string[] } {
  const fields = typeof given === 'object' && given !== null ? (given as Record<string, unknown>) : {};
  const { gatewayUrl, apiKey } = fields;
  const problems: string[] = [];
  let url = DEFAULT_URL;
  if (typeof gatewayUrl === 'string' && /^https?:\/\/[^/\s]+(\/[^\s]*)?$/.test(gatewayUrl))
    url = gatewayUrl.replace(/\/+$/, '');
  else if (gatewayUrl !== undefined && gatewayUrl !== null && gatewayUrl !== '')
    problems.push(
      `gatewayUrl: expected http://host:port or https://host, got ${JSON.stringify(gatewayUrl)}; it stays ${url}`,
    );
  return { target: { url, apiKey: typeof apiKey === 'string' && apiKey !== '' ? apiKey : null }, problems };
}
