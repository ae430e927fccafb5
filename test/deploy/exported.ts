// The metrics that services really export: their registries, built in this process by the services' own code.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { watchOutbox } from '#kit/audit/outbox-metrics.ts';
import type { Family } from '#kit/exposition.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics, type Metrics } from '#kit/metrics.ts';
import { startTracing } from '#kit/otlp/tracing.ts';
import { startRpcServer } from '#kit/rpc/server.ts';
import { noSpans } from '#kit/trace.ts';
import { countBatches, watchAudit } from '../../services/audit/audit-metrics.ts';
import { createEngineMetrics } from '../../services/engine/engine-metrics.ts';
import type { NativeLoad } from '../../services/engine/native.ts';
import { openGatewayAudit } from '../../services/gateway/audit/gateway-audit.ts';
import { createGatewayMetrics } from '../../services/gateway/gateway-metrics.ts';
import { createTokenizerMetrics } from '../../services/tokenizer/tokenizer-metrics.ts';
import { watchTools } from '../../services/tools/tools-metrics.ts';
import { noStatus } from '../../services/tools/tools-status.ts';

const LOAD: NativeLoad = {
  running: 0,
  waiting: 0,
  waitingPromptTokens: 0,
  freeBlocks: 4,
  cachedBlocks: 0,
  numBlocks: 4,
  generationTokensPerS: 0,
  promptTokensPerS: 0,
  steps: 0,
  lastStepUnixNs: 0n,
  preemptions: 0,
  prefixQueryTokens: 0,
  prefixHitTokens: 0,
  draining: false,
};

const notConnected = (): never => {
  throw new Error('not connected');
};

/** What every service has: the process, its RPC server, its span export. */
async function common(service: string): Promise<Metrics> {
  const metrics = createMetrics(service, { processMetrics: true });
  const log = createLog({ service, level: 'silent' });
  const folder = mkdtempSync(join(tmpdir(), 'quern-exported-'));
  const server = await startRpcServer({ service, listen: [`unix://${folder}/s/rpc.sock`], services: [], log, metrics });
  await server.close();
  rmSync(folder, { recursive: true });
  const config = { url: 'http://127.0.0.1:9/v1/traces', ratio: 1, vllmNames: false };
  const tracing = await startTracing({ service, config, log, metrics });
  await tracing.close();
  return metrics;
}

const OUTBOX = { outbox: { bytes: 0, status: 'open' as const, durableSeq: 0 }, publisher: null };

async function gatewayAudit(metrics: Metrics): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-exported-'));
  const audit = await openGatewayAudit({
    dir: join(folder, 'outbox'),
    keyDir: join(folder, 'keys'),
    servers: 'nats://127.0.0.1:9',
    coverage: null,
    required: true,
    log: createLog({ service: 'gateway', level: 'silent' }),
    metrics,
    spans: noSpans,
  });
  await audit.close();
  rmSync(folder, { recursive: true });
}

export async function exportedFamilies(): Promise<Map<string, Family[]>> {
  const gateway = await common('gateway');
  createGatewayMetrics(gateway).watch({ requestsInFlight: () => 0, tokensInFlight: () => 0, engines: () => [] });
  await gatewayAudit(gateway);
  const tokenizer = await common('tokenizer');
  createTokenizerMetrics(tokenizer, []);
  const engine = await common('engine');
  createEngineMetrics({
    metrics: engine,
    model: 'm',
    blockSize: 16,
    load: () => LOAD,
    orphans: () => 0,
    emptySlots: () => 0,
  });
  const audit = await common('audit');
  countBatches(audit);
  watchOutbox(audit, () => OUTBOX);
  watchAudit(audit, {
    consumer: () => ({ state: 'waiting', reason: '', pendingMessages: 0 }),
    ledgerRecords: () => 0,
    viewRecords: () => 0,
    clockAheadMs: () => 0,
    witnesses: () => [{ path: '/witness', state: 'ok', waitingNotes: 0, lostNotes: 0 }],
    checkpointTs: () => null,
    nats: notConnected,
  });
  const tools = await common('tools');
  watchOutbox(tools, () => OUTBOX);
  watchTools(tools, () => ({
    running: 0,
    queued: 0,
    approvals: 0,
    eventBytes: 0,
    journalBytes: 0,
    tools: 0,
    capabilities: { tier: null, list: [], probedUnixMs: 0 },
    status: noStatus,
  }));
  const services = { gateway, tokenizer, engine, audit, tools };
  const families = await Promise.all(
    Object.entries(services).map(async ([name, metrics]) => [name, await metrics.families()] as const),
  );
  return new Map(families);
}

/** Scraped name → the labels that its samples may have; null where they are not known (prom-client's own). */
export async function exportedNames(): Promise<Map<string, ReadonlySet<string> | null>> {
  const names = new Map<string, ReadonlySet<string> | null>();
  for (const { name, type, labelNames } of [...(await exportedFamilies()).values()].flat()) {
    const parts =
      type === 'histogram' ? ['_bucket', '_sum', '_count'] : type === 'summary' ? ['', '_sum', '_count'] : [''];
    for (const part of parts) names.set(`${name}${part}`, labelNames ? new Set(labelNames) : null);
  }
  return names;
}
