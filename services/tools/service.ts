// The tool service: takes calls, runs their tools in sandboxes, keeps account of them.
import { AuditServiceClient } from '#gen/quern/audit/v1/audit.ts';
import { ToolServiceService } from '#gen/quern/tools/v1/tools.ts';
import type { AskCoverage } from '#kit/audit/coverage.ts';
import { COVERAGE_TIMEOUT_MS } from '#kit/audit/limits.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import type { Vault } from '#kit/audit/vault.ts';
import { QuernError } from '#kit/errors.ts';
import { channelAccess, serverAccess } from '#kit/internal-access.ts';
import type { Log } from '#kit/log.ts';
import { type Metrics, serveMetrics } from '#kit/metrics.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { defineService, type RpcServer, startRpcServer } from '#kit/rpc/server.ts';
import { noSpans, type SpanSink } from '#kit/trace.ts';
import { Admission } from './admission.ts';
import { Approvals } from './approvals.ts';
import { CallJournal, type JournalRemains } from './call-journal.ts';
import type { ToolsConfig } from './config.ts';
import type { ToolsContext } from './context.ts';
import { Executor, endLost } from './executor.ts';
import { HEALTH_LOOK_MS, JOURNAL_SWEEP_MS, KILL_SETTLE_MS } from './limits.ts';
import type { ServerStatus } from './mcp/server-state.ts';
import { approve, deny } from './rpc/approve.ts';
import { attach } from './rpc/attach.ts';
import { cancel } from './rpc/cancel.ts';
import { endSession } from './rpc/end-session.ts';
import { execute } from './rpc/execute.ts';
import { getCapabilities } from './rpc/get-capabilities.ts';
import { listTools } from './rpc/list-tools.ts';
import { registerTool, removeTool } from './rpc/register-tool.ts';
import { rollback, snapshot } from './rpc/snapshot.ts';
import { noToolAudit, openToolAudit, type ToolAudit } from './tool-audit.ts';
import type { ToolParts } from './tool-parts.ts';
import { type ToolsMetrics, watchTools } from './tools-metrics.ts';
import type { ToolsStatus } from './tools-status.ts';

const SERVICE = 'quern.tools.v1.ToolService';
/** Health of everything that needs the sandbox. */
const CODE_CAPABILITY = 'tools.code';
/** Health of the MCP servers: not serving while one of them failed or is in quarantine. */
const MCP_CAPABILITY = 'tools.mcp';
const OUTBOX_CAPABILITY = 'audit.outbox';

const FAULTY: ReadonlySet<ServerStatus['state']> = new Set(['failed', 'quarantined']);

export type ToolsServiceOptions = {
  config: ToolsConfig;
  /** Opened while the process could still reach it; null: no audit records are kept. The service closes it. */
  vault: Vault | null;
  parts: ToolParts;
  log: Log;
  metrics: Metrics;
  spans?: SpanSink;
};

export type ToolsService = {
  readonly address: string;
  readonly context: ToolsContext;
  /** Resolves with the reason when nothing can be recorded any more: the process must be started again. It never rejects. */
  readonly failed: Promise<Error>;
  drain(options: { graceMs: number }): Promise<void>;
  close(): Promise<void>;
};

/** What was opened, to be closed in reverse. */
type Undo = () => Promise<void> | void;

async function undoAll(undo: Undo[], log: Log): Promise<void> {
  for (const action of undo.splice(0).reverse()) {
    await (async () => action())().catch((error: unknown) => log.error({ err: error }, 'closing failed'));
  }
}

async function openAudit(options: ToolsServiceOptions, remains: JournalRemains, undo: Undo[]): Promise<ToolAudit> {
  const { config, vault, log, metrics, spans = noSpans } = options;
  if (vault) undo.push(() => vault.close());
  if (!config.audit || !vault) {
    log.info({}, 'no audit records of tool calls are kept: QUERN_AUDIT_KEY_DIR is not set');
    return noToolAudit;
  }
  const { nats: servers, service, verifierKey } = config.audit;
  const client =
    service === null ? null : openChannel(AuditServiceClient, { address: service, ...channelAccess(config.internal) });
  if (client) undo.push(() => client.close());
  const ask: AskCoverage | null =
    client &&
    ((request, { signal }) => unary(client, 'getCoverage', request, { signal, timeoutMs: COVERAGE_TIMEOUT_MS }));
  const coverage = ask && { ask, verifierKey };
  const audit = await openToolAudit(
    { dir: config.folders.outbox, servers, coverage, vault, log, metrics, spans },
    remains,
  );
  undo.push(() => audit.close());
  return audit;
}

async function openJournal({ config, log }: ToolsServiceOptions, undo: Undo[]) {
  const opened = await CallJournal.open({ files: await openSegmentFiles(config.folders.journal) });
  const { journal, lost } = opened;
  undo.push(() => journal.close());
  if (lost.length > 0)
    log.warn({ calls: lost.length }, 'tool calls were running when the service ended: their outcome is unknown');
  const timer = setInterval(() => {
    journal.sweep().catch((error: unknown) => log.error({ err: error }, 'the journal of calls cannot be swept'));
  }, JOURNAL_SWEEP_MS);
  undo.push(() => clearInterval(timer));
  return opened;
}

async function openContext(
  options: ToolsServiceOptions,
  undo: Undo[],
): Promise<{ context: ToolsContext; journal: CallJournal }> {
  const { config, parts, log, metrics, spans = noSpans } = options;
  const { jail, catalog, packs, workspaces } = parts;
  const status = (): ToolsStatus => parts.status();
  undo.push(() => parts.close());
  const { journal, ...remains } = await openJournal(options, undo);
  const { lost } = remains;
  const audit = await openAudit(options, remains, undo);
  await endLost({ journal }, lost);
  const admission = new Admission(config.bounds);
  const approvals = new Approvals();
  const counted: ToolsMetrics = watchTools(metrics, () => ({
    running: admission.running,
    queued: admission.queued,
    approvals: approvals.size,
    eventBytes: executor.eventBytes,
    journalBytes: journal.bytes,
    tools: catalog.list().length,
    capabilities: jail.capabilities(),
    status: status(),
  }));
  const { approvalWaitMs } = config;
  const shared = { jail, catalog, workspaces, audit, journal, admission, approvals, spans, log, approvalWaitMs };
  const executor = new Executor({ ...shared, metrics: counted }, lost);
  undo.push(() => executor.drain(0));
  return { context: { catalog, packs, copies: workspaces, jail, executor, approvals, audit, status }, journal };
}

function listen(
  context: ToolsContext,
  { config, log, metrics, spans = noSpans }: ToolsServiceOptions,
): Promise<RpcServer> {
  return startRpcServer({
    service: 'tools',
    listen: [config.listen],
    services: [
      defineService(ToolServiceService, {
        listTools: (request) => listTools(context, request),
        registerTool: (request) => registerTool(context, request),
        removeTool: (request) => removeTool(context, request),
        execute: (request, call, out) => execute(context, request, call, out),
        attach: (request, call, out) => attach(context, request, call, out),
        cancel: (request) => cancel(context, request),
        getCapabilities: (request, call) => getCapabilities(context, request, call),
        snapshot: (request) => snapshot(context, request),
        rollback: (request) => rollback(context, request),
        endSession: (request) => endSession(context, request),
        approve: (request) => approve(context, request),
        deny: (request) => deny(context, request),
      }),
    ],
    ...serverAccess(config.internal),
    requireDeadline: true,
    log,
    metrics,
    spans,
  });
}

/** Why no call can be recorded until the process starts again; null: calls can be. */
function failureOf({ audit }: ToolsContext, journal: CallJournal): QuernError | null {
  const failure = (what: string, reason: string): QuernError =>
    new QuernError('UNAVAILABLE', `${what}; the service starts again, which loses nothing`, { reason });
  if (journal.hasFailed) return failure('the disk of the journal of calls failed', 'TOOL_JOURNAL_FAILED');
  return audit.state === 'failed' ? failure('the disk of the audit outbox failed', 'AUDIT_OUTBOX_FAILED') : null;
}

function keepHealth(context: ToolsContext, journal: CallJournal, server: RpcServer, undo: Undo[]): Promise<Error> {
  const { promise: failed, resolve: fail } = Promise.withResolvers<Error>();
  const look = (): void => {
    const problem = failureOf(context, journal);
    const recording = problem === null && context.audit.serving;
    for (const name of ['', SERVICE, OUTBOX_CAPABILITY]) server.setServing(name, recording);
    server.setServing(CODE_CAPABILITY, recording && context.jail.capabilities().tier !== null);
    server.setServing(
      MCP_CAPABILITY,
      context.status().servers.every(({ state }) => !FAULTY.has(state)),
    );
    context.executor.sweep();
    context.audit.capabilities(context.jail.capabilities()); // the jail tests itself now and then
    if (problem) fail(problem);
  };
  look();
  const timer = setInterval(look, HEALTH_LOOK_MS);
  undo.push(() => clearInterval(timer));
  return failed;
}

/** Opens the journal and the outbox, then listens. Throws one QuernError when something is not usable. */
export async function startTools(options: ToolsServiceOptions): Promise<ToolsService> {
  const { config, log, metrics } = options;
  const undo: Undo[] = [];
  try {
    const { context, journal } = await openContext(options, undo);
    const server = await listen(context, options);
    undo.push(() => server.close());
    const failed = keepHealth(context, journal, server, undo);
    if (config.metricsListen) {
      const ready = (): boolean => failureOf(context, journal) === null && context.audit.serving;
      const scrape = await serveMetrics({ ...config.metricsListen, metrics, ready });
      undo.push(() => scrape.close());
    }
    return {
      address: server.addresses[0]!,
      context,
      failed,
      drain: async ({ graceMs }) => {
        const killing = context.executor.drain(Math.max(0, graceMs - 2 * KILL_SETTLE_MS));
        await Promise.all([server.drain(graceMs), killing]);
      },
      close: () => undoAll(undo, log),
    };
  } catch (error) {
    await undoAll(undo, log);
    throw error;
  }
}
