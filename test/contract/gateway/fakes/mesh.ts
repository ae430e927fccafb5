// A whole gateway between fakes, on unix sockets of its own folder and free ports, closed after the test.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  ChatServiceClient,
  CompletionServiceClient,
  ModelServiceClient,
  RequestServiceClient,
} from '#gen/quern/gateway/v1/gateway.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel } from '#kit/rpc/client.ts';
import type { SpanSink } from '#kit/trace.ts';
import { type GatewayConfig, readConfig } from '../../../../services/gateway/config.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../../../../services/gateway/service.ts';
import { type MockEngine, type MockEngineOptions, startMockEngine } from './mock-engine.ts';
import { type MockTokenizer, startMockTokenizer } from './mock-tokenizer.ts';

export type TestMesh = {
  gateway: Gateway;
  engines: MockEngine[];
  engine: MockEngine;
  tokenizer: MockTokenizer;
  url: string;
  folder: string;
  completion: InstanceType<typeof CompletionServiceClient>;
  chat: InstanceType<typeof ChatServiceClient>;
  model: InstanceType<typeof ModelServiceClient>;
  requests: InstanceType<typeof RequestServiceClient>;
  restartEngine(index: number, options?: Partial<MockEngineOptions>): Promise<MockEngine>;
  restartTokenizer(): Promise<MockTokenizer>;
};

type AuditOptions = NonNullable<GatewayOptions['audit']>;

export type MeshOptions = {
  engines?: number;
  engine?: Partial<MockEngineOptions>;
  /** Formats in which the mock model writes tool calls and reasoning. */
  model?: { toolParser?: string; reasoningParser?: string; models?: readonly string[]; infillPromptTokens?: number };
  env?: Record<string, string> | ((folder: string) => Record<string, string>);
  config?: Partial<GatewayConfig>;
  spans?: SpanSink;
  /** Keeps audit records in folder/outbox; what it answers for that folder is for its disk and its bounds. */
  audit?: (dir: string) => Promise<AuditOptions> | AuditOptions;
};

/** The limit is what the slowest machine needs, and only a failure waits that long. */
export async function eventually(
  check: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 20_000,
): Promise<void> {
  const until = Date.now() + timeoutMs;
  while (!(await check())) {
    if (Date.now() > until) throw new Error(`did not happen within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function startMesh(t: Pick<TestContext, 'after'>, options: MeshOptions = {}): Promise<TestMesh> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-gw-'));
  const socket = (name: string): string => `unix://${join(folder, name)}.sock`;
  const count = options.engines ?? 1;
  const engines: MockEngine[] = [];
  for (let i = 0; i < count; i += 1)
    engines.push(await startMockEngine({ listen: socket(`engine${i}`), ...options.engine }));
  let tokenizer = await startMockTokenizer({ listen: socket('tokenizer'), ...options.model });
  const config = readConfig({
    QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0',
    QUERN_GATEWAY_GRPC_LISTEN: socket('gateway'),
    QUERN_GATEWAY_TOKENIZER: socket('tokenizer'),
    QUERN_GATEWAY_ENGINES: `mock=${engines.map((_, i) => socket(`engine${i}`)).join(',')}`,
    QUERN_LOG_LEVEL: process.env.QUERN_TEST_LOG ?? 'silent',
    ...(options.audit && {
      QUERN_AUDIT_OUTBOX_DIR: join(folder, 'outbox'),
      QUERN_AUDIT_KEY_DIR: join(folder, 'keys'),
      QUERN_NATS_URL: 'nats://127.0.0.1:1', // nobody is there
    }),
    ...(typeof options.env === 'function' ? options.env(folder) : options.env),
  });
  const log = createLog({ service: 'gateway', level: config.logLevel });
  const gateway = await startGateway({
    config: { ...config, ...options.config },
    log,
    metrics: createMetrics('gateway'),
    ...(options.spans && { spans: options.spans }),
    ...(options.audit && { audit: await options.audit(join(folder, 'outbox')) }),
  });
  const address = gateway.grpcAddress;
  const clients = [
    openChannel(CompletionServiceClient, { address }),
    openChannel(ChatServiceClient, { address }),
    openChannel(ModelServiceClient, { address }),
    openChannel(RequestServiceClient, { address }),
  ] as const;
  const [completion, chat, model, requests] = clients;
  t.after(async () => {
    for (const client of clients) client.close();
    await gateway.close();
    for (const engine of engines) await engine.close();
    await tokenizer.close();
    rmSync(folder, { recursive: true, force: true });
  });
  await eventually(
    () =>
      gateway.context.models.all().every((m) => gateway.context.models.ready(m) && m.replicas.every((r) => r.ready)),
    'gateway ready',
  );
  const mesh: TestMesh = {
    gateway,
    engines,
    get engine() {
      return engines[0] as MockEngine;
    },
    get tokenizer() {
      return tokenizer;
    },
    url: `http://${gateway.httpAddress}`,
    folder,
    completion,
    chat,
    model,
    requests,
    async restartEngine(index, more = {}) {
      await engines[index]?.close();
      engines[index] = await startMockEngine({ listen: socket(`engine${index}`), ...options.engine, ...more });
      return engines[index];
    },
    async restartTokenizer() {
      await tokenizer.close();
      tokenizer = await startMockTokenizer({ listen: socket('tokenizer'), ...options.model });
      return tokenizer;
    },
  };
  return mesh;
}
