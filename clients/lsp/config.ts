/** What the server takes from its environment: the same variables that the command line's client commands read. */
import { readFileSync } from 'node:fs';
import type { GatewayTarget } from './rpc/gateway-source.ts';

const DEFAULT_ADDRESS = '127.0.0.1:50051';
const PEM = '-----BEGIN CERTIFICATE-----';

/** Throws an Error that says what to do when a named file cannot be read. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): GatewayTarget {
  const address = env.QUERN_GATEWAY || DEFAULT_ADDRESS;
  if (!ADDRESS.test(address)) throw new Error(`QUERN_GATEWAY: expected ${ADDRESSES}, got ${shown(address)}`);
  const apiKey = env.QUERN_API_KEY || null;
  if (apiKey !== null && !KEY.test(apiKey))
    throw new Error('QUERN_API_KEY: expected a text of ASCII characters, got one with others (a line end?)');
  return {
    address,
    apiKey,
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

/**
 * `base` with what the editor's settings say: gateway, apiKey and caFile. What cannot be is named in `problems` and has the value
 * of `kept`, which was in force before.
 */
export function targetFrom(
  given: unknown,
  base: GatewayTarget,
  kept: GatewayTarget = base,
): { target: GatewayTarget; problems: string[] } {
  const fields = typeof given === 'object' && given !== null ? (given as Record<string, unknown>) : {};
  const problems: string[] = [];
  const isSet = (value: unknown): boolean => value !== undefined && value !== null && value !== '';
  const { gateway, apiKey, caFile } = fields;
  const target = { ...base };
  if (isSet(gateway)) {
    const isAddress = typeof gateway === 'string' && ADDRESS.test(gateway);
    if (!isAddress) problems.push(`gateway: expected ${ADDRESSES}, got ${shown(gateway)}; it stays ${kept.address}`);
    target.address = isAddress ? gateway : kept.address;
  }
  if (isSet(apiKey)) {
    const isText = typeof apiKey === 'string' && KEY.test(apiKey);
    // Never the value: it may be a key all the same.
    const got = typeof apiKey === 'string' ? 'a text with others' : `a ${typeof apiKey}`;
    if (!isText) problems.push(`apiKey: expected a text of ASCII characters, got ${got}; it stays as it was`);
    target.apiKey = isText ? apiKey : kept.apiKey;
  }
  if (isSet(caFile)) {
    const { ca, problem } = readEditorCa(caFile);
    if (problem) problems.push(`caFile: ${problem}; it stays as it was`);
    target.ca = problem ? kept.ca : ca;
  }
  return { target, problems };
}

const ADDRESSES = 'host:port, https://host:port or unix:///path';
const ADDRESS = /^((unix|dns|ipv4|ipv6):.+|(https?:\/\/)?[^\s/]+\/?)$/;
/** What a header can hold. */
const KEY = /^[ -~]+$/;

const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 80) ?? typeof value;

function readEditorCa(file: unknown): { ca: string; problem: string } {
  if (typeof file !== 'string')
    return { ca: '', problem: `expected the path of a PEM file of CAs, got ${shown(file)}` };
  const expected = `expected a PEM file of CAs, got ${file}`;
  try {
    const ca = readFileSync(file, 'utf8');
    return { ca, problem: ca.includes(PEM) ? '' : `${expected}, in which no certificate begins` };
  } catch (cause) {
    return { ca: '', problem: `${expected}, which cannot be read (${(cause as NodeJS.ErrnoException).code})` };
  }
}
