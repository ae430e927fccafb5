/** Which processes a one-machine mesh consists of, with their environments. Pure: the supervisor runs it. */
import { join } from 'node:path';
import {
  type AuditPlan,
  auditServiceEnv,
  gatewayAuditEnv,
  inheritedEnv,
  type OwnNats,
  operatorEnv,
} from './audit-plan.ts';
import type { ServedModel } from './model-folder.ts';
import {
  coverageAccess,
  TOOLS_NODE_OPTIONS,
  type ToolsPlan,
  toolsServiceEnv,
  toolsSocketFolder,
} from './tools-plan.ts';
import { type OwnJaeger, type TracePlan, traceEnv } from './trace-plan.ts';

/** What programs of others are given of the environment. */
const FOREIGN_VARIABLES = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'QUERN_STATE_DIR'];

/**
 * Halves of 16 MiB in the young generation: pauses of 3 ms at 250 streams/s where the 64 MiB they grow to by themselves have 8, and no
 * more CPU time at that rate. And a heap that may double before all of it is collected, which takes 20 to 35 ms: by V8's own
 * rule that is every 5 s of such traffic (docs/measurements/2026-11-22-first-token.md).
 */
export const GATEWAY_NODE_OPTIONS: readonly string[] = ['--max-semi-space-size=16', '--heap-growing-percent=100'];

/** What Node is told of each service, here and in deploy/compose.yaml. */
export const NODE_OPTIONS_OF: Readonly<Record<string, readonly string[]>> = {
  gateway: GATEWAY_NODE_OPTIONS,
  tools: TOOLS_NODE_OPTIONS,
};

export type UpOptions = {
  models: ServedModel[];
  http: string;
  grpc: string;
  threads: number | undefined;
  dtype: string | undefined;
  contextLength: number | undefined;
  /** Loopback ports for GET /metrics; one per engine. */
  metricsPorts: { tokenizer: number; engines: number[] };
  audit: AuditPlan;
  /** Absent: no tools run. */
  tools?: ToolsPlan | undefined;
  /** Default: nothing is exported but what the environment says. */
  traces?: TracePlan;
  /** Where the unix sockets lie; 0700. */
  runtimeDir: string;
  /** The checkout. */
  root: string;
  /** Node that runs the services. */
  node: string;
  env: NodeJS.ProcessEnv;
};

export type PlannedProcess = {
  name: string;
  kind: 'nats' | 'jaeger' | 'audit' | 'tools' | 'tokenizer' | 'engine' | 'gateway';
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  /** Address inside the mesh, or the public ones of the gateway. */
  addresses: string[];
  /** Where GET /metrics answers, if it does. */
  metrics: string | undefined;
  /** For the last column of the table, when the process does not say it itself. */
  what?: string;
  /** A program of others: it is ready when its port answers. */
  nats?: OwnNats;
  /** The same of Jaeger. */
  jaeger?: OwnJaeger;
};

/** The mesh serves without them: audit records wait in the gateway's outbox, spans are dropped. */
export function isOptional({ kind }: Pick<PlannedProcess, 'kind'>): boolean {
  return kind === 'nats' || kind === 'audit' || kind === 'jaeger' || kind === 'tools';
}

/** Jaeger, NATS, audit, tools, tokenizer, one engine per model, gateway last: the order of starting, and backwards of stopping. */
export function planProcesses(options: UpOptions): PlannedProcess[] {
  const inherited = inheritedEnv(options.env, options.audit);
  const exported = options.traces ? traceEnv(options.traces) : {};
  const socket = (name: string): string => `unix://${join(options.runtimeDir, `${name}.sock`)}`;
  const tokenizer = socket('tokenizer');
  const audit = socket('audit');
  const tools = `unix://${join(toolsSocketFolder(options.runtimeDir), 'tools.sock')}`;
  const engines = options.models.map((model, index) => ({ model, address: socket(`engine-${index}`), index }));
  const planned = (
    kind: Exclude<PlannedProcess['kind'], 'nats' | 'jaeger'>,
    name: string,
    settings: Record<string, string | undefined>,
    addresses: string[],
    metrics?: string,
  ): PlannedProcess => ({
    name,
    kind,
    ...startWords(options, kind),
    env: { ...inherited, ...exported, ...withoutUndefined(settings) },
    addresses,
    metrics,
    ...(kind === 'audit' && options.audit.kind === 'on' && { what: `ledger in ${options.audit.folders.ledger}` }),
  });
  const { audit: plan } = options;
  const coverage = options.tools ? coverageAccess(options.tools, options.env.QUERN_TOOLS_UID) : null;
  const toolsEnv =
    options.tools && toolsServiceEnv(options.tools, plan, { own: tools, audit: coverage?.address ?? audit });
  const plannedAudit = (on: Extract<AuditPlan, { kind: 'on' }>): PlannedProcess =>
    planned(
      'audit',
      'audit',
      { ...auditServiceEnv(on, audit, coverage), ...operatorEnv(options.env) },
      [audit],
      `127.0.0.1:${on.metricsPort}`,
    );
  const tokenizerMetrics = `127.0.0.1:${options.metricsPorts.tokenizer}`;
  return [
    ...(options.traces?.kind === 'own' ? [plannedJaeger(options.traces.own, inherited)] : []),
    ...(plan.kind === 'on' && plan.own ? [plannedNats(plan.own, inherited)] : []),
    ...(plan.kind === 'on' ? [plannedAudit(plan)] : []),
    ...(toolsEnv ? [planned('tools', 'tools', toolsEnv, [tools], toolsEnv.QUERN_TOOLS_METRICS_LISTEN)] : []),
    planned(
      'tokenizer',
      'tokenizer',
      tokenizerEnv(options, tokenizer, tokenizerMetrics),
      [tokenizer],
      tokenizerMetrics,
    ),
    ...engines.map(({ model, address, index }) =>
      planned(
        'engine',
        options.models.length === 1 ? 'engine' : `engine-${index} (${model.name})`,
        engineEnv(options, { model, address, metrics: metricsAddress(options, index) }),
        [address],
        metricsAddress(options, index),
      ),
    ),
    planned(
      'gateway',
      'gateway',
      {
        ...gatewayEnv(options, { tokenizer, engines }),
        ...gatewayAuditEnv(plan, audit),
        QUERN_TOOLS_ADDRESS: options.tools ? tools : undefined,
      },
      [options.http, options.grpc],
    ),
  ];
}

/** How one of our services is started. */
function startWords(options: UpOptions, kind: string): Pick<PlannedProcess, 'command' | 'args'> {
  const view = kind === 'tools' ? options.tools?.view : null;
  const { words, node, root } = view ?? { words: [], ...options };
  const nodeOptions = NODE_OPTIONS_OF[kind] ?? [];
  const [command = node, ...args] = [...words, node, ...nodeOptions, join(root, 'services', kind, 'main.ts')];
  return { command, args };
}

function gatewayEnv(
  { http, grpc }: UpOptions,
  { tokenizer, engines }: { tokenizer: string; engines: readonly { model: ServedModel; address: string }[] },
): Record<string, string> {
  return {
    QUERN_GATEWAY_HTTP_LISTEN: http,
    QUERN_GATEWAY_GRPC_LISTEN: grpc,
    QUERN_GATEWAY_TOKENIZER: tokenizer,
    QUERN_GATEWAY_ENGINES: engines.map(({ model, address }) => `${model.name}=${address}`).join(';'),
  };
}

function tokenizerEnv({ models }: UpOptions, address: string, metrics: string): Record<string, string> {
  return {
    QUERN_TOKENIZER_MODELS: models.map(({ name, dir }) => `${name}=${dir}`).join(','),
    QUERN_TOKENIZER_LISTEN: address,
    QUERN_TOKENIZER_METRICS_LISTEN: metrics,
  };
}

function engineEnv(
  { threads, dtype, contextLength }: UpOptions,
  { model, address, metrics }: { model: ServedModel; address: string; metrics: string | undefined },
): Record<string, string | undefined> {
  return {
    QUERN_ENGINE_MODEL_NAME: model.name,
    QUERN_ENGINE_MODEL_DIR: model.dir,
    QUERN_ENGINE_LISTEN: address,
    QUERN_ENGINE_METRICS_LISTEN: metrics,
    QUERN_ENGINE_THREADS: threads === undefined ? undefined : String(threads),
    QUERN_ENGINE_DTYPE: dtype,
    QUERN_ENGINE_CONTEXT_LENGTH: contextLength === undefined ? undefined : String(contextLength),
  };
}

/** It hears of the mesh's secrets as little as it can: PATH and where it may put files. */
function plannedNats(nats: OwnNats, inherited: NodeJS.ProcessEnv): PlannedProcess {
  const [command = '', ...args] = nats.words;
  const env = foreignEnv(inherited);
  const address = `nats://127.0.0.1:${nats.port}`;
  const what = `${nats.version}, JetStream`;
  return {
    name: 'nats-server',
    kind: 'nats',
    command,
    args,
    env,
    addresses: [address],
    metrics: undefined,
    what,
    nats,
  };
}

function foreignEnv(inherited: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(inherited).filter(([name]) => FOREIGN_VARIABLES.includes(name)));
}

function plannedJaeger(jaeger: OwnJaeger, inherited: NodeJS.ProcessEnv): PlannedProcess {
  const [command = '', ...args] = jaeger.words;
  const { ui, otlp } = jaeger.ports;
  return {
    name: 'jaeger',
    kind: 'jaeger',
    command,
    args,
    env: { ...foreignEnv(inherited), OTEL_TRACES_SAMPLER: 'always_off' },
    addresses: [`http://127.0.0.1:${ui}`, `OTLP http://127.0.0.1:${otlp}`],
    metrics: undefined,
    what: 'traces, in memory',
    jaeger,
  };
}

function metricsAddress({ metricsPorts }: UpOptions, index: number): string | undefined {
  const port = metricsPorts.engines[index];
  return port === undefined ? undefined : `127.0.0.1:${port}`;
}

function withoutUndefined(env: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
