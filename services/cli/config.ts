/** The CLI's environment. */
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { operatorEnv, operatorTokenOf } from '#kit/audit/operator-token.ts';
import { path, readEnv, str } from '#kit/env.ts';
import { caFile, secretFile } from '#kit/env-files.ts';
import { type InternalAccess, internalEnv, internalProblems, takeInternal } from '#kit/internal-access.ts';

/** Where the first mesh of a machine listens. */
export const HTTP_DEFAULT = '127.0.0.1:8000';
export const GRPC_DEFAULT = '127.0.0.1:50051';

const ADDON = 'engine-native/build/engine_addon.node';

export const cliEnv = {
  gateway: str('QUERN_GATEWAY', {
    doc:
      'gRPC address of the mesh that client commands talk to: host:port, or https://host:port when it speaks TLS. ' +
      `Absent: the running mesh of this state folder, else ${GRPC_DEFAULT}`,
    default: null,
  }),
  http: str('QUERN_GATEWAY_HTTP', {
    doc: `HTTP address of the same mesh, for quern bench. Absent: that of the running mesh at the gRPC address, else ${HTTP_DEFAULT}`,
    default: null,
  }),
  gatewayCa: caFile('QUERN_GATEWAY_CA_FILE', {
    doc: 'CAs of a mesh that speaks TLS. Absent: those that Node knows',
  }),
  apiKey: str('QUERN_API_KEY', { doc: 'API key that client commands send', default: null, secret: true }),
  model: str('QUERN_MODEL', {
    doc: 'What quern up serves: Hugging Face folders, NAME=DIR or DIR, comma separated. Absent: the bundled quern-mini',
    default: null,
  }),
  stateDir: path('QUERN_STATE_DIR', {
    doc: 'Audit log, its keys, and logs of a one-machine mesh. Absent: quern in the XDG state folder',
    default: null,
  }),
  keysFile: path('QUERN_KEYS_FILE', {
    doc: 'API keys; without it only loopback is bound and everyone is "local"',
    default: null,
  }),
  auditOutboxDir: path('QUERN_AUDIT_OUTBOX_DIR', {
    doc: "Folder of the gateway's own audit records until the ledger has them. quern up: outbox/gateway in the state folder",
    default: null,
  }),
  natsFile: secretFile('QUERN_NATS_URL_FILE', { doc: 'File that holds QUERN_NATS_URL' }),
  auditAddress: str('QUERN_AUDIT_ADDRESS', {
    doc: 'The audit service: unix:///path, or host:port with a shared token or mutual TLS. quern up: a socket of the mesh',
    default: null,
  }),
  toolsAddress: str('QUERN_TOOLS_ADDRESS', {
    doc: 'The tool service: unix:///path, or host:port with a shared token or mutual TLS. quern up: a socket of the mesh',
    default: null,
  }),
};

export type CliConfig = {
  /** gRPC address of the mesh that client commands talk to; absent: the running mesh of this state folder, else GRPC_DEFAULT. */
  gateway: string | undefined;
  /** HTTP address of the same mesh, for `quern bench --http`; absent: that of the running mesh at the gRPC address. */
  http: string | undefined;
  /** PEM of the CAs of a mesh that speaks TLS. */
  gatewayCa: string | undefined;
  apiKey: string | undefined;
  /** Model folders for `quern up`: DIR or NAME=DIR, comma separated. */
  model: string | undefined;
  stateDir: string;
  keysFile: string | undefined;
  /** The audit service that `quern audit` asks; absent: the running mesh's. */
  auditAddress: string | undefined;
  /** The tool service that `quern tools` asks; absent: the running mesh's. */
  toolsAddress: string | undefined;
  /** Where the tool service of `quern up` keeps its files; absent: a folder of the mesh's. */
  toolsDir: string | undefined;
  /** The account that the tool service becomes when root starts it, as written; absent: the usual one. */
  toolsUid: string | undefined;
  /** Folders of the audit log. */
  auditFolders: { ledger: string; keys: string; outbox: string; content: string };
  /** Where the log's signing key lies, if it is on this machine. */
  auditSigningKeyDir: string;
  /** Whose prompts and answers the gateway keeps; absent: nobody's. */
  contentPolicy: string | undefined;
  /** An existing NATS that `quern up` uses instead of a server of its own. */
  nats: string | undefined;
  /** Where programs are looked for: PATH, the user's cache folder, which outlives a checkout, and that of this checkout. */
  places: { path: string; caches: string[] };
  /** Where spans go; absent: to an own Jaeger. */
  otlpEndpoint: string | undefined;
  /** Where `quern up` lets the gateway listen. */
  httpListen: string;
  grpcListen: string;
  /** The addon that the engine will load. */
  addon: string;
  xdgRuntimeDir: string | undefined;
  /** Folders in which meshes of this user may have their own. */
  runtimeParents: string[];
  /** The checkout that this CLI belongs to. */
  root: string;
  /** Passed on to supervised processes. */
  env: NodeJS.ProcessEnv;
};

/** As in scripts/setup/paths.mjs. The specification wants an XDG folder that is not absolute to be passed over. */
function cacheFolders(env: NodeJS.ProcessEnv, root: string): string[] {
  if (env.QUERN_CACHE_DIR) return [resolve(env.QUERN_CACHE_DIR)];
  const xdg = env.XDG_CACHE_HOME ?? '';
  return [join(isAbsolute(xdg) ? xdg : join(homedir(), '.cache'), 'quern'), join(root, '.cache')];
}

/** Reads what the CLI needs; everything has a default. */
export function readCliConfig(env: NodeJS.ProcessEnv): CliConfig {
  const values = readEnv(env, cliEnv);
  const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
  const xdgState = env.XDG_STATE_HOME || join(homedir(), '.local', 'state');
  const stateDir = values.stateDir ?? resolve(xdgState, 'quern');
  return {
    gateway: values.gateway ?? undefined,
    http: values.http ?? undefined,
    gatewayCa: values.gatewayCa?.pem,
    apiKey: values.apiKey ?? undefined,
    model: values.model ?? undefined,
    stateDir,
    keysFile: values.keysFile ?? undefined,
    auditAddress: values.auditAddress ?? undefined,
    toolsAddress: values.toolsAddress ?? undefined,
    toolsDir: env.QUERN_TOOLS_DIR ? resolve(env.QUERN_TOOLS_DIR) : undefined,
    toolsUid: env.QUERN_TOOLS_UID || undefined,
    auditFolders: {
      ledger: resolve(env.QUERN_AUDIT_DIR || join(stateDir, 'audit')),
      keys: resolve(env.QUERN_AUDIT_KEY_DIR || join(stateDir, 'audit-keys')),
      outbox: values.auditOutboxDir ?? join(stateDir, 'outbox', 'gateway'),
      content: resolve(env.QUERN_AUDIT_CONTENT_DIR || join(stateDir, 'audit-content')),
    },
    auditSigningKeyDir: resolve(
      env.QUERN_AUDIT_SIGNING_KEY_DIR || env.QUERN_AUDIT_KEY_DIR || join(stateDir, 'audit-keys'),
    ),
    contentPolicy: env.QUERN_AUDIT_CONTENT_POLICY ? resolve(env.QUERN_AUDIT_CONTENT_POLICY) : undefined,
    nats: values.natsFile?.secret ?? (env.QUERN_NATS_URL || undefined),
    places: { path: env.PATH ?? '', caches: cacheFolders(env, root) },
    otlpEndpoint: env.QUERN_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT || undefined,
    // These belong to the services' own settings, which describe them; up must know them before it starts anything.
    httpListen: env.QUERN_GATEWAY_HTTP_LISTEN || HTTP_DEFAULT,
    grpcListen: env.QUERN_GATEWAY_GRPC_LISTEN || GRPC_DEFAULT,
    addon: env.QUERN_ENGINE_ADDON ? resolve(env.QUERN_ENGINE_ADDON) : join(root, ADDON),
    xdgRuntimeDir: env.XDG_RUNTIME_DIR || undefined,
    runtimeParents: [...(env.XDG_RUNTIME_DIR ? [env.XDG_RUNTIME_DIR] : []), '/tmp'],
    root,
    env,
  };
}

/** How the services of a mesh on TCP know us; for commands that call them. Throws INVALID_ARGUMENT, naming each variable. */
export function readInternalAccess(env: NodeJS.ProcessEnv): InternalAccess {
  const values = readEnv(env, internalEnv, { check: (given) => internalProblems(given, []) });
  return takeInternal(values).internal;
}

/** How `quern audit` is known: as an operator of the log where a token says so, else as part of the mesh. */
export function readAuditAccess(env: NodeJS.ProcessEnv): InternalAccess {
  const access = readInternalAccess(env);
  return { ...access, token: operatorTokenOf(readEnv(env, operatorEnv)) ?? access.token };
}
