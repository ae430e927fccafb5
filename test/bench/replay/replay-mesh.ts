// Tokenizer, engine and gateway as processes of their own on unix sockets, the engine with counts beside it.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { RequestServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { type GatewaySource, openGatewaySource } from '../../../clients/lsp/rpc/gateway-source.ts';
import { NODE_OPTIONS_OF } from '../../../services/cli/up/plan.ts';
import type { EngineCounts } from './counting-addon.ts';
import { ROOT } from './sources.ts';

/** Loading a model of gigabytes takes minutes. */
const READY_MS_MAX = 600_000;
const NAME = 'replayed';

/** What the gateway says of one request, in milliseconds by stage; tokens of what was made. */
export type Explained = { outcome: string; totalMs: number; stages: Record<string, number>; completionTokens: number };

export type ReplayMesh = {
  source: GatewaySource;
  /** Of all requests that ended at the engine since the last call. */
  counts(): Promise<EngineCounts>;
  /** Null: the gateway does not know it (any more). */
  explain(requestId: string): Promise<Explained | null>;
  close(): Promise<void>;
};

type Ready = { type: string; addresses?: string[]; message?: string };

async function start(service: string, env: NodeJS.ProcessEnv): Promise<{ child: ChildProcess; addresses: string[] }> {
  const child = fork(join(ROOT, 'services', service, 'main.ts'), [], {
    execArgv: [...(NODE_OPTIONS_OF[service] ?? [])],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, QUERN_LOG_LEVEL: 'warn', ...env },
  });
  const ready = new Promise<string[]>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${service}: not ready after ${READY_MS_MAX} ms`)), READY_MS_MAX);
    child.on('message', (message: Ready) => {
      if (message.type === 'fatal') reject(new Error(`${service}: ${message.message}`));
      if (message.type !== 'ready') return;
      clearTimeout(timer);
      resolve(message.addresses ?? []);
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`${service} ended with ${code}`));
    });
  });
  return { child, addresses: await ready };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

async function takeCounts(engine: ChildProcess): Promise<EngineCounts> {
  const answered = new Promise<EngineCounts>((resolve) => {
    const hear = (message: { type: string; counts: EngineCounts }): void => {
      if (message.type !== 'counts') return;
      engine.off('message', hear);
      resolve(message.counts);
    };
    engine.on('message', hear);
  });
  engine.send('take counts');
  return answered;
}

async function explain(client: RequestServiceClient, requestId: string): Promise<Explained | null> {
  const known = await unary(client, 'explain', { requestId }, { timeoutMs: 5_000 }).catch(() => null);
  if (!known) return null;
  const stages: Record<string, number> = {};
  for (const { name, durationUs } of known.stages) stages[name] = (stages[name] ?? 0) + Number(durationUs) / 1e3;
  const completionTokens = known.usage?.completionTokens ?? 0;
  return { outcome: known.outcome, totalMs: Number(known.durationUs) / 1e3, stages, completionTokens };
}

/** Serves one model folder. */
export async function startReplayMesh(modelDir: string): Promise<ReplayMesh> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-replay-'));
  const socket = (name: string): string => `unix://${join(folder, name)}.sock`;
  const started: ChildProcess[] = [];
  const begin = async (service: string, env: NodeJS.ProcessEnv): Promise<string[]> => {
    const { child, addresses } = await start(service, env);
    started.unshift(child);
    return addresses;
  };
  const stopAll = async (): Promise<void> => {
    for (const child of started) await stop(child);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await begin('tokenizer', {
      QUERN_TOKENIZER_MODELS: `${NAME}=${modelDir}`,
      QUERN_TOKENIZER_LISTEN: socket('tokenizer'),
    });
    await begin('engine', {
      QUERN_ENGINE_MODEL_NAME: NAME,
      QUERN_ENGINE_MODEL_DIR: modelDir,
      QUERN_ENGINE_LISTEN: socket('engine'),
      QUERN_ENGINE_ADDON: fileURLToPath(new URL('counting-addon.ts', import.meta.url)),
    });
    const engine = started[0]!;
    const [http = '', grpc = ''] = await begin('gateway', {
      QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0',
      QUERN_GATEWAY_GRPC_LISTEN: '127.0.0.1:0',
      QUERN_GATEWAY_TOKENIZER: socket('tokenizer'),
      QUERN_GATEWAY_ENGINES: `${NAME}=${socket('engine')}`,
    });
    const base = http.startsWith('http') ? http : `http://${http}`;
    for (let tries = 0; (await fetch(`${base}/health`)).status !== 200; tries++) {
      if (tries > 400) throw new Error('the gateway does not become healthy');
      await sleep(25);
    }
    const address = grpc.replace('http://', '');
    const source = openGatewaySource({ address, apiKey: null, ca: null });
    const requests = openChannel(RequestServiceClient, { address });
    return {
      source,
      counts: () => takeCounts(engine),
      explain: (requestId) => explain(requests, requestId),
      async close() {
        source.close();
        requests.close();
        await stopAll();
      },
    };
  } catch (error) {
    await stopAll();
    throw error;
  }
}
