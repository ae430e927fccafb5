// A gRPC server of one process: it listens, knows its callers, answers health and reflection, drains and closes.
import { chmod } from 'node:fs/promises';
import type { ServerOptions as Http2ServerOptions } from 'node:http2';
import type { PeerCertificate } from 'node:tls';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { assert } from '#kit/assert.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import {
  HTTP2_RESETS_BURST,
  HTTP2_RESETS_PER_SECOND,
  RPC_ABORT_SETTLE_MS,
  RPC_CONCURRENT_STREAMS_MAX,
  RPC_KEEPALIVE_MS,
  RPC_KEEPALIVE_TIMEOUT_MS,
  RPC_MESSAGE_BYTES_MAX,
} from '#kit/limits.ts';
import type { Log } from '#kit/log.ts';
import type { Metrics } from '#kit/metrics.ts';
import { localPrincipal, operatorPrincipal, type Principal, servicePrincipal } from '#kit/principal.ts';
import { constantTimeEqual } from '#kit/secure.ts';
import { noSpans, type SpanSink } from '#kit/trace.ts';
import { type Address, formatAddress, isLocal, parseAddress } from './address.ts';
import { createDispatcher, type Dispatcher, type DispatchOptions, wireDefinition } from './dispatch.ts';
import { createHealth } from './health.ts';
import { reflectionServices } from './reflection.ts';
import { createResetMeter } from './reset-meter.ts';
import type { MetadataReader, ServiceRegistration } from './service.ts';
import { prepareSocketPath } from './socket-path.ts';
import { isUnixPeer } from './surface.ts';
import { logTlsRefusals } from './tls-refusals.ts';

export {
  type CallContext,
  defineService,
  type Handler,
  type Handlers,
  type MetadataReader,
  type Out,
  type ServiceRegistration,
} from './service.ts';

/** PEM texts. */
export type ServerTls = {
  cert: string | Buffer;
  key: string | Buffer;
  ca?: string | Buffer;
  requireClientCert?: boolean;
};

export type RpcServerOptions = {
  /** The process's name: "engine". */
  service: string;
  /** 'unix:///path' or 'host:port'; port 0 takes a free one. */
  listen: readonly string[];
  services: readonly ServiceRegistration[];
  /** Who calls. Throws UNAUTHENTICATED. A valid shared token comes first, when there is one. */
  authenticate?: (metadata: MetadataReader, peer: string) => Principal | Promise<Principal>;
  /** TCP only; unix sockets are guarded by their folder. */
  tls?: ServerTls;
  /** 'authorization: Bearer <token>' on every call but health. */
  sharedToken?: string;
  /** The same of those who operate the service: a caller with it is an operator, and then nobody else is. */
  operatorToken?: string;
  /**
   * Loopback TCP may be open to everybody on this machine. For a public API without keys; between services TCP needs
   * `sharedToken` or `tls` with required client certificates everywhere. Default false.
   */
  openOnLoopback?: boolean;
  /** Refuse unary calls without a deadline. */
  requireDeadline?: boolean;
  /** Default true. */
  reflection?: boolean;
  log: Log;
  metrics: Metrics;
  maxMessageBytes?: number;
  /** Cancels and expired deadlines allowed per principal (per connection where nobody is named). */
  resetLimit?: { burst: number; perSecond: number };
  /** Takes one server span per call. Default: nowhere. */
  spans?: SpanSink;
  /** Names a span around authentication, for servers whose callers are people: "gateway.authorize". */
  authorizeSpan?: string;
};

export type RpcServer = {
  /** Where it listens, real ports filled in, in the order asked for. */
  readonly addresses: string[];
  /** "" is the whole server; other names are capabilities. All start as not serving. */
  setServing(name: string, serving: boolean): void;
  /**
   * Health says NOT_SERVING, new calls get UNAVAILABLE with a retry hint, running ones have graceMs; then their signals
   * abort with UNAVAILABLE. Resolves when all have ended or had their chance. Health goes on until close().
   */
  drain(graceMs: number): Promise<void>;
  /** Aborts what still runs, says goodbye to the connections and frees the sockets. Idempotent. */
  close(): Promise<void>;
};

/**
 * Raises Node's HTTP/2 rapid-reset limit on one server; call before bindAsync. At Node's own burst of 1,000 a caller
 * that cancels often kills the streams of all others on its connection. grpc-js has no option for it, so this reaches
 * into a private field (checked by test/contract/kit/reset-limit.test.ts).
 */
function allowResets(server: Server, burst: number, perSecond: number): void {
  const options = (server as unknown as { commonServerOptions?: Http2ServerOptions }).commonServerOptions;
  assert(options, 'grpc-js changed: commonServerOptions is gone');
  Object.assign(options, { streamResetBurst: burst, streamResetRate: perSecond });
}

/** Nothing that others can reach may be open; on TCP every user of the machine is another. */
function refuseOpen(options: RpcServerOptions, address: Address): void {
  const mutualTls = options.tls?.requireClientCert === true;
  if (address.kind === 'unix' || mutualTls || options.sharedToken || options.authenticate) return;
  if (options.openOnLoopback && isLocal(address)) return;
  const message =
    `${options.service} refuses to listen on ${formatAddress(address)} without authentication: expected ` +
    `${options.openOnLoopback ? 'a loopback address' : 'a unix socket'}, or mutual TLS (certificate, key, CA and ` +
    'required client certificates), or a shared token; set one of them';
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'OPEN_LISTENER' });
}

function checkTls(tls: ServerTls | undefined): void {
  if (!tls?.requireClientCert || tls.ca) return;
  const message = 'TLS: required client certificates need a CA to check them against; set the CA file';
  throw new QuernError('FAILED_PRECONDITION', message, { reason: 'TLS_CA_MISSING' });
}

function credentialsFor(address: Address, tls: ServerTls | undefined): ServerCredentials {
  if (!tls || address.kind === 'unix') return ServerCredentials.createInsecure();
  const pair = { private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.cert) };
  return ServerCredentials.createSsl(tls.ca ? Buffer.from(tls.ca) : null, [pair], tls.requireClientCert ?? false);
}

function refuseToken(given: string | undefined): never {
  const got = given === undefined ? 'none' : 'another one';
  const message = `authentication: expected 'authorization: Bearer <shared token>', got ${got}; use the mesh's token`;
  throw new QuernError('UNAUTHENTICATED', message, { reason: given === undefined ? 'TOKEN_MISSING' : 'TOKEN_INVALID' });
}

/** The name in a certificate of the mesh: its common name, else the first of its alternative names. */
function certificateName(certificate: PeerCertificate): string {
  const alternative = /^[^:]+:([^,]+)/.exec(certificate.subjectaltname ?? '')?.[1];
  return String(certificate.subject?.CN ?? alternative ?? 'mesh');
}

/** TLS has turned such callers away already; this is a second lock. */
function refuseCertificate(): never {
  const message = "authentication: expected a client certificate, got none; send one of the mesh's CA";
  throw new QuernError('UNAUTHENTICATED', message, { reason: 'CERTIFICATE_MISSING' });
}

function authenticator(options: RpcServerOptions): DispatchOptions['authenticate'] {
  const { sharedToken, operatorToken, authenticate, tls } = options;
  return (surface, peer) => {
    const metadata = { get: (name: string) => surface.metadata.get(name)[0]?.toString() };
    const given = metadata.get('authorization');
    if (operatorToken !== undefined && given !== undefined && constantTimeEqual(given, `Bearer ${operatorToken}`))
      return operatorPrincipal;
    if (sharedToken !== undefined) {
      if (given !== undefined && constantTimeEqual(given, `Bearer ${sharedToken}`)) return servicePrincipal('mesh');
      if (!authenticate) return refuseToken(given);
    }
    if (authenticate) return authenticate(metadata, peer);
    if (tls?.requireClientCert) {
      const certificate = surface.getAuthContext().sslPeerCertificate;
      if (certificate) return servicePrincipal(certificateName(certificate));
      if (!isUnixPeer(peer)) return refuseCertificate();
    }
    return operatorToken === undefined ? localPrincipal : servicePrincipal('mesh');
  };
}

function bind(server: Server, address: Address, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(formatAddress(address), credentials, (cause, port) => {
      if (!cause) {
        resolve(port);
        return;
      }
      const message = `cannot listen on ${formatAddress(address)}: ${cause.message}; choose another address or stop what uses it`;
      reject(new QuernError('UNAVAILABLE', message, { reason: 'LISTEN_FAILED' }, { cause }));
    });
  });
}

async function listen(server: Server, options: RpcServerOptions, addresses: readonly Address[]): Promise<string[]> {
  const bound: string[] = [];
  for (const address of addresses) {
    if (address.kind === 'unix') await prepareSocketPath(address.path);
    const port = await bind(server, address, credentialsFor(address, options.tls));
    if (address.kind === 'unix') await chmod(address.path, 0o600).catch(() => {}); // the folder protects; this is a second lock
    bound.push(formatAddress(address.kind === 'unix' ? address : { ...address, port }));
  }
  return bound;
}

function shutDown(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown(); // tryShutdown waits for live streams for ever
      resolve();
    }, RPC_ABORT_SETTLE_MS);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function register(server: Server, services: readonly ServiceRegistration[], dispatcher: Dispatcher): void {
  for (const service of services) {
    server.addService(wireDefinition(service) as never, dispatcher.implementation(service));
  }
}

/** Starts a server. Throws FAILED_PRECONDITION for an unsafe set-up, UNAVAILABLE when an address is taken. */
export async function startRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  const { log, metrics, maxMessageBytes = RPC_MESSAGE_BYTES_MAX } = options;
  const wanted = options.listen.map(parseAddress);
  if (wanted.length === 0)
    throw new QuernError('INVALID_ARGUMENT', `${options.service}: expected an address to listen on`);
  for (const address of wanted) refuseOpen(options, address);
  checkTls(options.tls);

  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.max_concurrent_streams': RPC_CONCURRENT_STREAMS_MAX,
    'grpc.enable_channelz': 0, // nobody serves it, and it counts every message
    'grpc.keepalive_time_ms': RPC_KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': RPC_KEEPALIVE_TIMEOUT_MS,
  });
  allowResets(server, HTTP2_RESETS_BURST, HTTP2_RESETS_PER_SECOND);
  const names = options.services.map((service) => service.name);
  const health = createHealth(names);
  const dispatcher = createDispatcher({
    log,
    metrics,
    meter: createResetMeter(options.resetLimit),
    requireDeadline: options.requireDeadline ?? false,
    maxMessageBytes,
    authenticate: authenticator(options),
    spans: options.spans ?? noSpans,
    authorizeSpan: options.authorizeSpan ?? null,
  });
  const reflection = (options.reflection ?? true) ? reflectionServices([...names, health.registration.name]) : [];
  register(server, [...options.services, health.registration, ...reflection], dispatcher);

  let addresses: string[];
  try {
    addresses = await listen(server, options, wanted);
    if (options.tls) logTlsRefusals(server, log);
  } catch (error) {
    server.forceShutdown();
    throw toQuernError(error);
  }
  log.info({ addresses, services: names }, 'listening');

  const stopping = new QuernError('UNAVAILABLE', 'this server is stopping; retry, another one may answer', {
    reason: 'DRAINING',
  });
  let closing: Promise<void> | null = null;

  async function drain(graceMs: number): Promise<void> {
    health.shutDown();
    dispatcher.refuseNew();
    await dispatcher.idle(AbortSignal.timeout(graceMs));
    dispatcher.abortAll(stopping);
    await dispatcher.idle(AbortSignal.timeout(RPC_ABORT_SETTLE_MS));
  }

  return {
    addresses,
    setServing: (name, serving) => health.set(name, serving),
    drain,
    close() {
      closing ??= drain(0).then(() => {
        dispatcher.abortAll(stopping, { background: true });
        return shutDown(server);
      });
      return closing;
    },
  };
}
