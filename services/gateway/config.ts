// The gateway's settings from the environment. The only file here that reads it.

import { parseVerifierKey } from '#kit/audit/checkpoint.ts';
import { parseNatsAddress } from '#kit/audit/nats-address.ts';
import {
  bool,
  duration_ms,
  field,
  int,
  list,
  oneOf,
  type Parsed,
  path,
  readEnv,
  str,
  type ValuesOf,
} from '#kit/env.ts';
import { certificateFile, incompleteProblems, pairProblems, privateKeyFile, secretFile } from '#kit/env-files.ts';
import { QuernError } from '#kit/errors.ts';
import { type InternalAccess, internalEnv, internalProblems, takeInternal } from '#kit/internal-access.ts';
import { DRAIN_GRACE_MS } from '#kit/limits.ts';
import { type TracingConfig, takeTracing, tracingEnv } from '#kit/otlp/settings.ts';
import { isLocal, parseAddress } from '#kit/rpc/address.ts';
import type { AdmissionBounds } from './admission.ts';
import {
  PRINCIPAL_REQUESTS_MAX_DEFAULT,
  PRINCIPAL_TOKENS_MAX_DEFAULT,
  REQUESTS_MAX_DEFAULT,
  TOKENS_MAX_DEFAULT,
} from './limits.ts';
import { parseOrigin } from './web-origin.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

const ORIGINS_MAX = 64;
const ORIGINS =
  `up to ${ORIGINS_MAX} comma-separated origins of web pages, scheme://host[:port] without a path: ` +
  'http://localhost:3000, https://code.example';

/** Origins as browsers send them, in whatever form they were written. */
function readOrigins(text: string): Parsed<readonly string[]> {
  const items = text.split(',').map((item) => item.trim());
  if (items.length > ORIGINS_MAX) return { ok: false, expected: ORIGINS, actual: `${items.length} of them` };
  const origins: string[] = [];
  for (const item of items) {
    const origin = parseOrigin(item);
    if (origin === null) return { ok: false, expected: ORIGINS, actual: `"${item.slice(0, 200)}"` };
    origins.push(origin);
  }
  return { ok: true, value: origins };
}

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
  allowedOrigins: field<readonly string[], null>(
    'QUERN_GATEWAY_HTTP_ALLOWED_ORIGINS',
    {
      doc: 'Web pages that may call and read the answers (CORS), as scheme://host[:port]; VS Code in a browser needs its page here',
      default: null,
    },
    ORIGINS,
    (origins) => origins.join(','),
    readOrigins,
  ),
  tlsCert: certificateFile('QUERN_GATEWAY_TLS_CERT_FILE', { doc: 'Certificate chain of both listeners' }),
  tlsKey: privateKeyFile('QUERN_GATEWAY_TLS_KEY_FILE', { doc: 'Private key of both listeners' }),
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
  saltSecretFile: secretFile('QUERN_GATEWAY_SALT_SECRET_FILE', { doc: 'File that holds it' }),
  keysFile: path('QUERN_KEYS_FILE', {
    doc: 'API keys; without it only loopback is bound and everyone is "local"',
    default: null,
  }),
  auditOutboxDir: path('QUERN_AUDIT_OUTBOX_DIR', {
    doc: "Folder of the gateway's audit outbox, on a disk that outlives it. Absent: no audit records are kept",
    default: null,
  }),
  auditKeyDir: path('QUERN_AUDIT_KEY_DIR', {
    doc: 'Folder of the vault with its key: who a pseudonym is, and the keys of users; apart from QUERN_AUDIT_DIR and its backups',
    default: null,
  }),
  auditContentDir: path('QUERN_AUDIT_CONTENT_DIR', {
    doc: 'Folder of the prompts and answers that QUERN_AUDIT_CONTENT_POLICY keeps. Absent: none are kept or shown',
    default: null,
  }),
  auditContentPolicy: path('QUERN_AUDIT_CONTENT_POLICY', {
    doc: "JSON file that says whose prompts and answers are kept, redacted and encrypted. Absent: nobody's",
    default: null,
  }),
  nats: str('QUERN_NATS_URL', {
    doc: 'NATS servers, separated by commas; credentials as in nats://user:password@host:4222',
    default: 'nats://127.0.0.1:4222',
  }),
  natsFile: secretFile('QUERN_NATS_URL_FILE', { doc: 'File that holds it' }),
  auditRequired: bool('QUERN_AUDIT_REQUIRED', {
    doc: 'Whether a request that cannot be recorded is refused; 0: it is served and counted',
    default: true,
  }),
  auditAddress: str('QUERN_AUDIT_ADDRESS', {
    doc: 'Address of the audit service, asked what a checkpoint covers. Absent: outbox segments stay',
    default: null,
  }),
  auditVerifierKey: str('QUERN_AUDIT_VERIFIER_KEY', {
    doc: 'Verifier key line by which checkpoints are checked. Absent: the first one seen is kept',
    default: null,
  }),
  tools: str('QUERN_TOOLS_ADDRESS', {
    doc: 'Address of the tool service. Absent: no agent runs, and no tools that run on the server',
    default: null,
  }),
  ...internalEnv,
  ...tracingEnv,
  logLevel: oneOf('QUERN_LOG_LEVEL', LOG_LEVELS, { doc: 'Least level that is logged', default: 'info' }),
};

export type GatewayConfig = {
  http: { host: string; port: number; loopbackOnly: boolean };
  grpcListen: string;
  tokenizer: string;
  /** In the order given. */
  models: { name: string; addresses: string[] }[];
  allowedHosts: ReadonlySet<string> | null;
  allowedOrigins: ReadonlySet<string>;
  tls: { cert: string; key: string } | null;
  bounds: AdmissionBounds;
  drainGraceMs: number;
  saltSecret: string | null;
  keysFile: string | null;
  /** Null: no audit records are kept. */
  audit: {
    dir: string;
    keyDir: string;
    /** Null: no text of prompts and answers is kept. */
    content: { dir: string; policyFile: string | null } | null;
    nats: string;
    required: boolean;
    /** Null: nobody to ask for coverage. */
    service: string | null;
    verifierKey: string | null;
  } | null;
  /** Address of the tool service; null: none. */
  tools: string | null;
  internal: InternalAccess;
  logLevel: (typeof LOG_LEVELS)[number];
};

function invalid(variable: string, description: string): QuernError {
  const fields = [{ field: variable, description }];
  return new QuernError('INVALID_ARGUMENT', `${variable}: ${description}`, { reason: 'CONFIG_INVALID', fields });
}

function splitModels(text: string): GatewayConfig['models'] {
  return text
    .split(';')
    .filter((part) => part.trim() !== '')
    .map((part) => {
      const at = part.indexOf('=');
      const addresses = part
        .slice(at + 1)
        .split(',')
        .map((address) => address.trim());
      return { name: part.slice(0, at).trim(), addresses };
    });
}

function parseModels(text: string): GatewayConfig['models'] {
  const models = splitModels(text);
  const twice = models.find((model, i) => models.findIndex((other) => other.name === model.name) !== i);
  if (twice) throw invalid('QUERN_GATEWAY_ENGINES', `model "${twice.name}" stands twice; list its engines with commas`);
  return models;
}

function parseHttp(text: string): GatewayConfig['http'] {
  const address = parseAddress(text);
  if (address.kind === 'unix') throw invalid('QUERN_GATEWAY_HTTP_LISTEN', `expected host:port, got "${text}"`);
  return { host: address.host.replace(/^\[|\]$/g, ''), port: address.port, loopbackOnly: isLocal(address) };
}

type Values = ValuesOf<typeof gatewayEnv>;

function auditProblems({ auditOutboxDir, auditKeyDir, auditVerifierKey, ...given }: Partial<Values>): string[] {
  const nats = given.natsFile?.secret ?? given.nats;
  const wrong = (name: string, read: () => unknown): string[] => {
    try {
      read();
      return [];
    } catch (error) {
      return [`${name}: ${(error as Error).message}; correct it`];
    }
  };
  if (!auditOutboxDir) return [];
  const problems = auditKeyDir
    ? []
    : [`${gatewayEnv.auditKeyDir.name}: expected the folder of the vault, which audit records need, got none; set it`];
  if (given.auditContentPolicy && !given.auditContentDir) {
    const name = gatewayEnv.auditContentDir.name;
    problems.push(
      `${name}: expected the folder for what ${gatewayEnv.auditContentPolicy.name} keeps, got none; set it`,
    );
  }
  if (nats) problems.push(...wrong(gatewayEnv.nats.name, () => parseNatsAddress(nats)));
  if (auditVerifierKey)
    problems.push(...wrong(gatewayEnv.auditVerifierKey.name, () => parseVerifierKey(auditVerifierKey)));
  return problems;
}

function takeAudit(values: Values): GatewayConfig['audit'] {
  const { auditOutboxDir: dir, auditKeyDir: keyDir, auditRequired: required } = values;
  const nats = values.natsFile?.secret ?? values.nats;
  if (dir === null || keyDir === null) return null;
  const { auditContentDir, auditContentPolicy: policyFile } = values;
  const content = auditContentDir === null ? null : { dir: auditContentDir, policyFile };
  return { dir, keyDir, content, nats, required, service: values.auditAddress, verifierKey: values.auditVerifierKey };
}

function problems(given: Partial<Values>): string[] {
  const { tlsCert: cert, tlsKey: key } = given;
  const engines = splitModels(given.engines ?? '').flatMap((model) => model.addresses);
  return [
    ...incompleteProblems({ QUERN_GATEWAY_TLS_CERT_FILE: cert, QUERN_GATEWAY_TLS_KEY_FILE: key }),
    ...pairProblems('QUERN_GATEWAY_TLS_KEY_FILE', { cert, key }),
    ...auditProblems(given),
    ...internalProblems(given, [
      { name: gatewayEnv.tokenizer.name, address: given.tokenizer },
      ...engines.map((address) => ({ name: gatewayEnv.engines.name, address })),
      ...(given.tools ? [{ name: gatewayEnv.tools.name, address: given.tools }] : []),
      ...(given.auditAddress ? [{ name: gatewayEnv.auditAddress.name, address: given.auditAddress }] : []),
    ]),
  ];
}

/** Throws INVALID_ARGUMENT, reason CONFIG_INVALID, for what cannot be served or would be open to others. */
export function readConfig(env: NodeJS.ProcessEnv): GatewayConfig & { tracing: TracingConfig } {
  const values = readEnv(env, gatewayEnv, { check: problems });
  const { tlsCert: cert, tlsKey: key } = values;
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
    allowedOrigins: new Set(values.allowedOrigins ?? []),
    tls: cert && key && { cert: cert.pem, key: key.pem },
    bounds: {
      requestsMax: values.requestsMax,
      tokensMax: values.tokensMax,
      principalRequestsMax: values.principalRequestsMax,
      principalTokensMax: values.principalTokensMax,
    },
    drainGraceMs: values.drainGraceMs,
    saltSecret: values.saltSecret ?? values.saltSecretFile?.secret ?? null,
    keysFile: values.keysFile,
    audit: takeAudit(values),
    tools: values.tools,
    internal: takeInternal(values).internal,
    tracing: takeTracing(values).tracing,
    logLevel: values.logLevel,
  };
}
