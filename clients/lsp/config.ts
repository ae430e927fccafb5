/** What the server takes from its environment: the same variables that the command line's client commands read. */
import { readFileSync } from 'node:fs';
import type { GatewayTarget } from './rpc/gateway-source.ts';

const DEFAULT_ADDRESS = '127.0.0.1:50051';

/** Throws an Error that says what to do when a named file cannot be read. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): GatewayTarget {
  return {
    address: env.QUERN_GATEWAY || DEFAULT_ADDRESS,
    apiKey: env.QUERN_API_KEY || null,
    ca: env.QUERN_GATEWAY_CA_FILE ? readCa(env.QUERN_GATEWAY_CA_FILE) : null,
  };
}

function readCa(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message = `QUERN_GATEWAY_CA_FILE: expected a PEM file of CAs, got ${file}, which cannot be read (${code})`;
    throw new Error(message, { cause });
  }
}

/** `base` with what the editor's settings say: gateway, apiKey and caFile; what cannot be is named in `problems`. */
export function targetFrom(given: unknown, base: GatewayTarget): { target: GatewayTarget; problems: string[] } {
  const fields = typeof given === 'object' && given !== null ? (given as Record<string, unknown>) : {};
  const problems: string[] = [];
  const text = (name: string): string | null => {
    const value = fields[name];
    if (value === undefined || value === null || value === '') return null;
    if (typeof value === 'string') return value;
    problems.push(`${name}: expected a text, got ${typeof value}; it stays as it was`);
    return null;
  };
  const caFile = text('caFile');
  let { ca } = base;
  try {
    if (caFile !== null) ca = readFileSync(caFile, 'utf8');
  } catch (cause) {
    problems.push(`caFile: expected a PEM file of CAs, got one that cannot be read (${(cause as Error).message})`);
  }
  return { target: { address: text('gateway') ?? base.address, apiKey: text('apiKey') ?? base.apiKey, ca }, problems };
}
