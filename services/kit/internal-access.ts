// How the processes of a mesh know one another on TCP: a shared token, certificates of the mesh's own CA (mutual TLS),
// or both. A unix socket is guarded by its folder; TLS does not apply to it, a token does.
import { type EnvSpec, str, type ValuesOf } from './env.ts';
import {
  caFile,
  certificateFile,
  incompleteProblems,
  pairProblems,
  privateKeyFile,
  secretFile,
  TOKEN,
  TOKEN_EXPECTED,
} from './env-files.ts';
import { parseAddress } from './rpc/address.ts';
import type { ClientTls } from './rpc/client.ts';
import type { ServerTls } from './rpc/server.ts';

/** The settings that every internal server and client has; part of each service's environment. */
export const internalEnv = {
  internalToken: str('QUERN_INTERNAL_TOKEN', {
    doc: 'Shared token between the services of a mesh',
    default: null,
    secret: true,
    pattern: TOKEN,
    expected: TOKEN_EXPECTED,
  }),
  internalTokenFile: secretFile('QUERN_INTERNAL_TOKEN_FILE', { doc: 'File that holds it', isToken: true }),
  internalTlsCert: certificateFile('QUERN_INTERNAL_TLS_CERT_FILE', {
    doc: 'Certificate by which this service proves to the others on TCP that it belongs to the mesh (mutual TLS)',
  }),
  internalTlsKey: privateKeyFile('QUERN_INTERNAL_TLS_KEY_FILE', { doc: 'Its private key' }),
  internalTlsCa: caFile('QUERN_INTERNAL_TLS_CA_FILE', {
    doc: 'CA of the mesh. Whoever holds a certificate of it may call internal services, so it signs nothing else',
  }),
  internalTlsServerName: str('QUERN_INTERNAL_TLS_SERVER_NAME', {
    doc: 'Name that the certificates of internal servers must bear. Absent: the host of their address',
    default: null,
    pattern: /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/,
    expected: 'a host name',
  }),
} satisfies EnvSpec;

type Values = ValuesOf<typeof internalEnv>;

export type InternalAccess = {
  readonly token: string | null;
  /** PEM texts. serverName null: the host of the address. */
  readonly tls: { cert: string; key: string; ca: string; serverName: string | null } | null;
};

/** An internal address and the variable it comes from; undefined when the variable cannot be read. */
export type InternalAddress = { name: string; address: string | undefined };

function tlsProblems(values: Partial<Values>): string[] {
  const { internalTlsCert: cert, internalTlsKey: key, internalTlsCa: ca, internalTlsServerName: serverName } = values;
  const problems = incompleteProblems({
    QUERN_INTERNAL_TLS_CERT_FILE: cert,
    QUERN_INTERNAL_TLS_KEY_FILE: key,
    QUERN_INTERNAL_TLS_CA_FILE: ca,
  });
  problems.push(...pairProblems('QUERN_INTERNAL_TLS_KEY_FILE', { cert, key }));
  if (serverName && cert === null && key === null && ca === null) {
    problems.push(
      `QUERN_INTERNAL_TLS_SERVER_NAME: expected certificates to check for "${serverName}", got none; ` +
        'set QUERN_INTERNAL_TLS_CERT_FILE, _KEY_FILE and _CA_FILE too, or remove it',
    );
  }
  return problems;
}

function openProblems(values: Partial<Values>, addresses: readonly InternalAddress[]): string[] {
  const problems: string[] = [];
  const open: string[] = [];
  for (const { name, address } of addresses) {
    if (address === undefined) continue;
    try {
      if (parseAddress(address).kind === 'tcp') open.push(`${name}=${address}`);
    } catch (error) {
      problems.push(`${name}: ${(error as Error).message}; correct it`);
    }
  }
  const { internalToken, internalTokenFile, internalTlsCert, internalTlsKey, internalTlsCa } = values;
  const isSet = [internalToken, internalTokenFile, internalTlsCert, internalTlsKey, internalTlsCa].some(
    (v) => v !== null,
  );
  if (open.length === 0 || isSet) return problems;
  problems.push(
    `QUERN_INTERNAL_TOKEN: expected a shared token or mutual TLS between services on TCP (${open.join(', ')}), got ` +
      'neither; set QUERN_INTERNAL_TOKEN or QUERN_INTERNAL_TOKEN_FILE, or QUERN_INTERNAL_TLS_CERT_FILE, _KEY_FILE and ' +
      '_CA_FILE, or use unix:///path',
  );
  return problems;
}

/** What is wrong with them, for the `check` of readEnv. On TCP one of token and mutual TLS must be there, loopback too. */
export function internalProblems(values: Partial<Values>, addresses: readonly InternalAddress[]): string[] {
  return [...tlsProblems(values), ...openProblems(values, addresses)];
}

/** The access that checked values give, and what else they hold. A token of the variable goes before that of the file. */
export function takeInternal<V extends Values>(values: V): { internal: InternalAccess } & Omit<V, keyof Values> {
  const {
    internalToken,
    internalTokenFile,
    internalTlsCert: cert,
    internalTlsKey: key,
    internalTlsCa: ca,
    internalTlsServerName: serverName,
    ...rest
  } = values;
  const internal = {
    token: internalToken ?? internalTokenFile?.secret ?? null,
    tls: cert && key && ca && { cert: cert.pem, key: key.pem, ca: ca.pem, serverName },
  };
  return { ...rest, internal };
}

/** What startRpcServer takes: callers need the token when there is one, and on TCP a certificate when there is TLS. */
export function serverAccess({ token, tls }: InternalAccess): { sharedToken?: string; tls?: ServerTls } {
  return {
    ...(token !== null && { sharedToken: token }),
    ...(tls && { tls: { cert: tls.cert, key: tls.key, ca: tls.ca, requireClientCert: true } }),
  };
}

/** What openChannel takes: the token, the own certificate, and by which CA and name the server is known. */
export function channelAccess({ token, tls }: InternalAccess): { sharedToken?: string; tls?: ClientTls } {
  return {
    ...(token !== null && { sharedToken: token }),
    ...(tls && {
      tls: { cert: tls.cert, key: tls.key, ca: tls.ca, ...(tls.serverName !== null && { serverName: tls.serverName }) },
    }),
  };
}
