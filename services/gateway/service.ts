// The gateway as one object with a life: engines, tokenizer, both front doors, drain and close.
import { randomBytes } from 'node:crypto';
import { AuditServiceClient } from '#gen/quern/audit/v1/audit.ts';
import type { AskCoverage } from '#kit/audit/coverage.ts';
import { COVERAGE_TIMEOUT_MS } from '#kit/audit/limits.ts';
import { QuernError } from '#kit/errors.ts';
import { channelAccess } from '#kit/internal-access.ts';
import { keyIdOf } from '#kit/keys-file.ts';
import type { Log } from '#kit/log.ts';
import type { Metrics } from '#kit/metrics.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { type RpcServer, type RpcServerOptions, startRpcServer } from '#kit/rpc/server.ts';
import { hostOfPeer } from '#kit/rpc/surface.ts';
import { deriveSalt } from '#kit/secure.ts';
import { noSpans, type SpanSink } from '#kit/trace.ts';
import { Admission } from './admission.ts';
import { createAgentMetrics } from './agent/agent-metrics.ts';
import { AgentRuns } from './agent/agent-runs.ts';
import type { Agents } from './agent/agents.ts';
import { nestedContextKey } from './agent/nested-context.ts';
import { type Authenticate, authenticateLocal, bearerToken, createAuthenticate } from './api-keys.ts';
import { type GatewayAudit, type GatewayAuditOptions, noAudit, openGatewayAudit } from './audit/gateway-audit.ts';
import { keyChanges } from './audit/key-changes.ts';
import type { GatewayConfig } from './config.ts';
import type { GatewayContext } from './context.ts';
import { EngineSession } from './engine-session.ts';
import { ExplainRing } from './explain-ring.ts';
import { createGatewayMetrics } from './gateway-metrics.ts';
import { type HttpFront, startHttpFront } from './http/server.ts';
import { Models } from './models.ts';
import { RequestTable } from './request-table.ts';
import { gatewayServices } from './rpc/services.ts';
import { AUTHORIZE_SPAN } from './stage-spans.ts';
import { TokenizerClient } from './tokenizer-client.ts';
import { createToolClient, type ToolClient } from './tool-client.ts';
import { noTools, watchTools } from './tools-watch.ts';

export type Gateway = {
  readonly httpAddress: string;
  readonly grpcAddress: string;
  /** Both speak TLS. */
  readonly isTls: boolean;
  readonly context: GatewayContext;
  /** Refuses new requests, lets running ones end within the grace, then ends them with UNAVAILABLE. */
  drain(options: { graceMs: number; signal: AbortSignal }): Promise<void>;
  close(): Promise<void>;
};

export type GatewayOptions = {
  config: GatewayConfig;
  log: Log;
  metrics: Metrics;
  spans?: SpanSink;
  /** For tests: an outbox on a disk that fails, and smaller bounds. */
  audit?: Partial<GatewayAuditOptions>;
};

type Parts = {
  context: GatewayContext;
  engines: EngineSession[];
  tools: ToolClient | null;
  startDraining(): void;
  onChange(listener: () => void): void;
};

/** Where the audit service says what a checkpoint covers. */
function coverageOf({ audit, internal }: GatewayConfig): { coverage: GatewayAuditOptions['coverage']; close(): void } {
  if (!audit?.service) return { coverage: null, close: () => {} };
  const client = openChannel(AuditServiceClient, { address: audit.service, ...channelAccess(internal) });
  const ask: AskCoverage = (request, { signal }) =>
    unary(client, 'getCoverage', request, { signal, timeoutMs: COVERAGE_TIMEOUT_MS });
  return { coverage: { ask, verifierKey: audit.verifierKey }, close: () => client.close() };
}

async function openAudit({
  config,
  log,
  metrics,
  spans = noSpans,
  audit: over,
}: GatewayOptions): Promise<GatewayAudit> {
  if (config.audit === null) {
    log.info({}, 'no audit records are kept: QUERN_AUDIT_OUTBOX_DIR is not set');
    return noAudit;
  }
  const { nats: servers, service: _service, verifierKey: _key, ...kept } = config.audit;
  const { coverage, close } = coverageOf(config);
  const options = { ...kept, servers, coverage, log, metrics, spans, onClosed: close, ...over };
  return openGatewayAudit(options).catch((error: unknown) => {
    close();
    throw error;
  });
}

/** The callers' check, with failures and changes of the keys told to the audit. */
function authenticator({ keysFile }: GatewayConfig, audit: GatewayAudit, log: Log): Authenticate {
  if (keysFile === null) return authenticateLocal;
  const check = createAuthenticate(keysFile, log, undefined, (before, after) => {
    audit.events.keysChanged(keyChanges(before, after));
  });
  return (token, client = '') => {
    try {
      return check(token);
    } catch (error) {
      audit.events.authFailed({ clientIp: client, keyId: token === null ? '' : keyIdOf(token) });
      throw error;
    }
  };
}

/** Agent runs, when there is a tool service. */
function buildAgents(
  { config, metrics, spans = noSpans }: GatewayOptions,
  secret: string | Uint8Array,
): { agents: Agents | null; tools: ToolClient | null } {
  if (config.tools === null) return { agents: null, tools: null };
  const tools = createToolClient({ address: config.tools, ...channelAccess(config.internal), spans });
  const runs = new AgentRuns();
  const agentMetrics = createAgentMetrics(metrics);
  agentMetrics.watch(() => runs.size);
  const sealingKey = nestedContextKey(secret);
  return { agents: { runs, tools, metrics: agentMetrics, sealingKey, sharedKey: config.saltSecret !== null }, tools };
}

function build(options: GatewayOptions, audit: GatewayAudit): Parts {
  const { config, log, metrics, spans = noSpans } = options;
  const listeners: (() => void)[] = [];
  const changed = (): void => {
    models.changed();
    for (const listener of listeners) listener();
  };
  const gatewayMetrics = createGatewayMetrics(metrics);
  const access = channelAccess(config.internal);
  const served = config.models.map(({ name, addresses }) => ({
    name,
    replicas: addresses.map(
      (address) =>
        new EngineSession({
          address,
          model: name,
          ...access,
          log,
          onChange: changed,
          onCancelled: gatewayMetrics.cancelled,
          onLoaded: ({ modelHash, contextLength }) =>
            audit.events.modelLoaded({ model: name, modelHash, contextLength }),
          onRejected: (error) => audit.events.modelRejected({ model: name, error }),
          onCrash: (error, requests) => audit.events.engineCrashed({ model: name, error, requests }),
        }),
    ),
  }));
  const names = served.map((model) => model.name);
  const tokenizer = new TokenizerClient({
    address: config.tokenizer,
    models: names,
    ...access,
    log,
    spans,
    onChange: changed,
  });
  const models = new Models(served, tokenizer);
  const admission = new Admission(config.bounds, gatewayMetrics.shed);
  const engines = served.flatMap((model) => model.replicas);
  gatewayMetrics.watch({
    requestsInFlight: () => admission.requests,
    tokensInFlight: () => admission.tokens,
    engines: () =>
      engines.map((e) => ({
        model: e.model,
        engine: e.name,
        ready: e.ready,
        inFlight: e.inFlight,
        zombies: e.zombies,
        ...e.load,
      })),
  });
  const secret = config.saltSecret ?? randomBytes(32);
  const { agents, tools } = buildAgents(options, secret);
  const salts = new Map<string, string>();
  let draining = false;
  const context: GatewayContext = {
    log,
    metrics: gatewayMetrics,
    spans,
    models,
    tokenizer,
    admission,
    audit,
    requests: new RequestTable(),
    explain: new ExplainRing(),
    agents,
    toolsWatch: tools ? watchTools((options) => tools.tier(options), { log }) : noTools,
    authenticate: authenticator(config, audit, log),
    cacheSalt(tenant) {
      const known = salts.get(tenant);
      if (known !== undefined) return known;
      const salt = deriveSalt(secret, tenant);
      salts.set(tenant, salt); // tenants come from the keys file, so this stays small
      return salt;
    },
    allowedHosts: config.allowedHosts,
    allowedOrigins: config.allowedOrigins,
    draining: () => draining,
  };
  const startDraining = (): void => {
    draining = true;
    admission.close();
  };
  return { context, engines, tools, startDraining, onChange: (listener) => listeners.push(listener) };
}

function startGrpc(config: GatewayConfig, context: GatewayContext, log: Log, metrics: Metrics): Promise<RpcServer> {
  const options: RpcServerOptions = {
    service: 'gateway',
    listen: [config.grpcListen],
    services: gatewayServices(context),
    spans: context.spans,
    authorizeSpan: AUTHORIZE_SPAN,
    openOnLoopback: true,
    log,
    metrics,
  };
  if (config.tls) options.tls = config.tls;
  if (config.keysFile !== null) {
    options.authenticate = (metadata, peer) =>
      context.authenticate(
        bearerToken(metadata.get('authorization')) ?? metadata.get('x-api-key') ?? null,
        hostOfPeer(peer),
      );
  }
  return startRpcServer(options);
}

/** NOT_SERVING while no records are kept or the outbox takes none; whether requests are refused then is a setting. */
const AUDIT_CAPABILITY = 'audit.outbox';
/** NOT_SERVING while the audit service does not answer, or answers what cannot be; requests are served all the same. */
const AUDIT_SERVICE_CAPABILITY = 'audit.service';

/** Serving means: a completion would be served now. Each service name follows, as health probes ask for either. */
function followReadiness(rpc: RpcServer, parts: Parts): void {
  const names = ['', ...gatewayServices(parts.context).map((service) => service.name)];
  const update = (): void => {
    const { models, draining, audit } = parts.context;
    const service = audit.report?.service ?? null;
    rpc.setServing(AUDIT_CAPABILITY, audit.serving && audit.report?.outbox === 'open');
    if (service !== null) rpc.setServing(AUDIT_SERVICE_CAPABILITY, service === 'ok');
    const serving = !draining() && audit.serving && models.all().some((model) => models.ready(model));
    for (const name of names) rpc.setServing(name, serving);
  };
  parts.onChange(update);
  parts.context.audit.onChange(update);
  update();
}

/** Starts everything; engines and tokenizer may come later. Throws UNAVAILABLE when an address is taken. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { config, log, metrics } = options;
  const audit = await openAudit(options);
  const parts = await (async () => build(options, audit))().catch(async (error: unknown) => {
    await audit.close();
    throw error;
  });
  const { context, engines } = parts;
  context.tokenizer.start();
  for (const engine of engines) engine.start();
  const closeClients = async (): Promise<void> => {
    context.agents?.runs.close();
    context.toolsWatch.close();
    parts.tools?.close();
    await Promise.all([...engines.map((engine) => engine.close()), context.tokenizer.close()]);
    await audit.close(); // last: what the others end is recorded
  };
  let rpc: RpcServer | null = null;
  let http: HttpFront;
  try {
    rpc = await startGrpc(config, context, log, metrics);
    http = await startHttpFront(context, { ...config.http, tls: config.tls ?? undefined });
  } catch (error) {
    await rpc?.close();
    await closeClients();
    throw error;
  }
  const server = rpc;
  followReadiness(server, parts);
  log.info(
    { http: http.address, grpc: server.addresses[0], models: config.models.map((model) => model.name) },
    'gateway listens',
  );
  return {
    httpAddress: http.address,
    grpcAddress: server.addresses[0] as string,
    isTls: config.tls !== null,
    context,
    async drain({ graceMs, signal }) {
      parts.startDraining();
      await Promise.all([server.drain(graceMs), http.drain(signal)]);
      const stopping = new QuernError('UNAVAILABLE', 'this gateway is stopping; try again', { reason: 'DRAINING' });
      for (const running of context.requests.all()) running.abort(stopping);
    },
    async close() {
      parts.startDraining();
      await Promise.all([server.close(), http.close()]);
      await closeClients();
    },
  };
}
