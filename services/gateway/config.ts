// The gateway's settings from the environment. The only file here that reads it.
import { readFileSync } from 'node:fs';
import { duration_ms, int, list, oneOf, path, readEnv, str } from '#kit/env.ts';
import { QuernError } from '#kit/errors.ts';
import { DRAIN_GRACE_MS } from '#kit/limits.ts';
import { isLocal, parseAddress } from '#kit/rpc/address.ts';
import type { AdmissionBounds } from './admission.ts';
import {
  PRINCIPAL_REQUESTS_MAX_DEFAULT,
  PRINCIPAL_TOKENS_MAX_DEFAULT,
  REQUESTS_MAX_DEFAULT,
  TOKENS_MAX_DEFAULT,
} from './limits.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export const gatewayEnv = {
  httpListen: str('QUERN_GATEWAY_HTTP_LISTEN', {
    doc: 'Where the HTTP API listens, host:port',
    default: '127.0.0.1:8000',
  }),
  grpcListen: str('QUERN_GATEWAY_GRPC_LISTEN', {
    doc: 'Where the gRPC API listens, host:port or unix:///path',
    default: '127.0.0.1:50051',
  }),
  tokenizer: str('QUERN_GATEWAY_TOKENIZER', { doc: 'Address of the tokenizer service', default: '127.0.0.1:50052' }),
  engines: str('QUERN_GATEWAY_ENGINES', {
    doc: 'Served models and the addresses of their engines',
    default: 'quern-mini=127.0.0.1:50053',
    pattern: /^[^=;]+=[^=;]+(?:;[^=;]+=[^=;]+)*;?$/,
    expected: 'name=address[,address2];name2=...',
  }),
  allowedHosts: list('QUERN_GATEWAY_ALLOWED_HOSTS', {
    doc: 'Host names by which HTTP callers may name this gateway, beside the loopback names; also hosts of web pages that may call',
    default: null,
    pattern: /^[A-Za-z0-9.[\]:-]+$/,
    expected: 'host names',
  }),
  tlsCert: path('QUERN_GATEWAY_TLS_CERT_FILE', { doc: 'Certificate chain (PEM) of both listeners', default: null }),
  tlsKey: path('QUERN_GATEWAY_TLS_KEY_FILE', { doc: 'Private key (PEM) of both listeners', default: null }),
  requestsMax: int('QUERN_GATEWAY_MAX_REQUESTS', {
    doc: 'Requests in flight',
    default: REQUESTS_MAX_DEFAULT,
    min: 1,
    max: 1 << 20,
  }),
  tokensMax: int('QUERN_GATEWAY_MAX_TOKENS', {
    doc: 'Prompt tokens and max_tokens in flight',
    default: TOKENS_MAX_DEFAULT,
    min: 1,
  }),
  principalRequestsMax: int('QUERN_GATEWAY_MAX_REQUESTS_PER_KEY', {
    doc: 'Requests in flight of one API key',
    default: PRINCIPAL_REQUESTS_MAX_DEFAULT,
    min: 1,
  }),
  principalTokensMax: int('QUERN_GATEWAY_MAX_TOKENS_PER_KEY', {
    doc: 'Prompt tokens and max_tokens in flight of one API key',
    default: PRINCIPAL_TOKENS_MAX_DEFAULT,
    min: 1,
  }),
  drainGraceMs: duration_ms('QUERN_GATEWAY_DRAIN_GRACE', {
    doc: 'How long running requests may go on after SIGTERM',
    default: DRAIN_GRACE_MS,
    min: 0,
  }),
  saltSecret: str('QUERN_GATEWAY_SALT_SECRET', {
    doc: 'Secret from which prefix-cache salts of tenants are derived; the same on all gateways. Absent: drawn at every start',
    default: null,
    secret: true,
  }),
  saltSecretFile: path('QUERN_GATEWAY_SALT_SECRET_FILE', { doc: 'File that holds it', default: null }),
  keysFile: path('QUERN_KEYS_FILE', {
    doc: 'API keys; without it only loopback is bound and everyone is "local"',
    default: null,
  }),
  internalToken: str('QUERN_INTERNAL_TOKEN', {
    doc: 'Shared token between the services of a mesh',
    default: null,
    secret: true,
  }),
  internalTokenFile: path('QUERN_INTERNAL_TOKEN_FILE', { doc: 'File that holds it', default: null }),
  logLevel: oneOf('QUERN_LOG_LEVEL', LOG_LEVELS, { doc: 'Least level that is logged', default: 'info' }),
};

export type GatewayConfig = {
  http: { host: string; port: number; loopbackOnly: boolean };
  grpcListen: string;
  tokenizer: string;
  /** In the order given. */
  models: { name: string; addresses: string[] }[];
  allowedHosts: ReadonlySet<string> | null;
  tls: { cert: string; key: string } | null;
  bounds: AdmissionBounds;
  drainGraceMs: number;
  saltSecret: string | null;
  keysFile: string | null;
  internalToken: string | null;
  logLevel: (typeof LOG_LEVELS)[number];
};

function invalid(variable: string, description: string): QuernError {
  const fields = [{ field: variable, description }];
  return new QuernError('INVALID_ARGUMENT', `${variable}: ${description}`, { reason: 'CONFIG_INVALID', fields });
}

function secret(value: string | null, file: string | null, variable: string): string | null {
  if (value !== null || file === null) return value;
  try {
    const text = readFileSync(file, 'utf8').trim();
    if (text !== '') return text;
  } catch (cause) {
    throw new QuernError(
      'INVALID_ARGUMENT',
      `${variable}: cannot read ${file}`,
      { reason: 'CONFIG_INVALID' },
      { cause },
    );
  }
  throw invalid(variable, `expected a secret in ${file}, got an empty file`);
}

function parseModels(text: string): GatewayConfig['models'] {
  const models = text
    .split(';')
    .filter((part) => part.trim() !== '')
    .map((part) => {
      const at = part.indexOf('=');
      const addresses = part
        .slice(at + 1)
        .split(',')
        .map((address) => address.trim());
      for (const address of addresses) parseAddress(address);
      return { name: part.slice(0, at).trim(), addresses };
    });
  const twice = models.find((model, i) => models.findIndex((other) => other.name === model.name) !== i);
  if (twice) throw invalid('QUERN_GATEWAY_ENGINES', `model "${twice.name}" stands twice; list its engines with commas`);
  return models;
}

function parseHttp(text: string): GatewayConfig['http'] {
  const address = parseAddress(text);
  if (address.kind === 'unix') throw invalid('QUERN_GATEWAY_HTTP_LISTEN', `expected host:port, got "${text}"`);
  return { host: address.host.replace(/^\[|\]$/g, ''), port: address.port, loopbackOnly: isLocal(address) };
}

function readTls(cert: string | null, key: string | null): GatewayConfig['tls'] {
  if (cert === null && key === null) return null;
  if (cert === null || key === null) {
    throw invalid('QUERN_GATEWAY_TLS_CERT_FILE', 'expected both the certificate and the key file, got one of them');
  }
  return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
}

/** Throws INVALID_ARGUMENT, reason CONFIG_INVALID, for what cannot be served or would be open to others. */
export function readConfig(env: NodeJS.ProcessEnv): GatewayConfig {
  const values = readEnv(env, gatewayEnv);
  const http = parseHttp(values.httpListen);
  const open = [
    ...(http.loopbackOnly ? [] : [`QUERN_GATEWAY_HTTP_LISTEN=${values.httpListen}`]),
    ...(isLocal(parseAddress(values.grpcListen)) ? [] : [`QUERN_GATEWAY_GRPC_LISTEN=${values.grpcListen}`]),
  ];
  if (open.length > 0 && values.keysFile === null) {
    throw invalid(
      'QUERN_KEYS_FILE',
      `expected API keys to listen beyond this machine (${open.join(', ')}); set it or bind 127.0.0.1`,
    );
  }
  return {
    http,
    grpcListen: values.grpcListen,
    tokenizer: values.tokenizer,
    models: parseModels(values.engines),
    allowedHosts: values.allowedHosts && new Set(values.allowedHosts.map((host) => host.toLowerCase())),
    tls: readTls(values.tlsCert, values.tlsKey),
    bounds: {
      requestsMax: values.requestsMax,
      tokensMax: values.tokensMax,
      principalRequestsMax: values.principalRequestsMax,
      principalTokensMax: values.principalTokensMax,
    },
    drainGraceMs: values.drainGraceMs,
    saltSecret: secret(values.saltSecret, values.saltSecretFile, 'QUERN_GATEWAY_SALT_SECRET_FILE'),
    keysFile: values.keysFile,
    internalToken: secret(values.internalToken, values.internalTokenFile, 'QUERN_INTERNAL_TOKEN_FILE'),
    logLevel: values.logLevel,
  };
}
