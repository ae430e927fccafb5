// The processes that the benchmarks of the gateway share: a mock engine and tokenizer with bare one-hop streams beside them, a
// gateway, and callers over gRPC and SSE in the process that measures.
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Metadata } from '@grpc/grpc-js';
import { CompletionServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { openChannel } from '#kit/rpc/client.ts';
import { GATEWAY_NODE_OPTIONS } from '../../../services/cli/up/plan.ts';
import { emptySampling } from '../../../services/gateway/typed-request.ts';
import type { MockMainReady } from '../../contract/gateway/fakes/mock-main.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
export const STEP_MS = 10;

/** Streams one answer, under a request id if one is given; calls onDelta per message that carries text; resolves at its end. */
export type Call = (maxTokens: number, onDelta: () => void, requestId?: string) => Promise<void>;
export type Caller = { call: Call; close(): void };

export function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** `headers`: of each call, beside its request id. */
export function grpcCall(address: string, headers: () => Record<string, string> = () => ({})): Caller {
  const client = openChannel(CompletionServiceClient, { address });
  const call: Call = (maxTokens, onDelta, requestId = '') =>
    new Promise((resolve, reject) => {
      const request = {
        model: '',
        prompt: { $case: 'text' as const, value: 'def main():\n' },
        sampling: { ...emptySampling(), maxTokens, ignoreEos: true },
        stop: [],
        options: undefined,
        echo: false,
      };
      const metadata = new Metadata();
      if (requestId !== '') metadata.set('x-request-id', requestId);
      for (const [name, value] of Object.entries(headers())) metadata.set(name, value);
      const stream = client.streamComplete({ request }, metadata);
      stream.on('data', (message) => {
        if (message.event?.$case === 'delta') onDelta();
      });
      stream.on('end', resolve);
      stream.on('error', reject);
    });
  return { call, close: () => client.close() };
}

export function sseCall(address: string, extra: () => Record<string, string> = () => ({})): Caller {
  const [host, port] = address.split(':') as [string, string];
  const agent = new Agent({ keepAlive: true, maxSockets: 1024 });
  const call: Call = (maxTokens, onDelta, requestId = '') =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify({ prompt: 'def main():\n', max_tokens: maxTokens, stream: true, ignore_eos: true });
      const headers = {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        ...(requestId !== '' && { 'x-request-id': requestId }),
        ...extra(),
      };
      const request = httpRequest(
        { host, port, agent, path: '/v1/completions', method: 'POST', headers },
        (response) => {
          response.on('data', (chunk: Buffer) => {
            if (chunk.includes('"finish_reason":null')) onDelta();
          });
          response.on('end', resolve);
          response.on('error', reject);
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  return { call, close: () => agent.destroy() };
}

export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export function print(columns: readonly (string | number)[]): void {
  const text = columns.map((c) => (typeof c === 'number' ? c.toFixed(2) : c));
  process.stdout.write(`${text.map((c, i) => (i === 0 ? c.padEnd(22) : c.padStart(11))).join('')}\n`);
}

export type Mesh = {
  mock: ChildProcess;
  gateway: ChildProcess;
  bare: MockMainReady;
  grpc: string;
  http: string;
  close(): Promise<void>;
};

/** Throws when the process ends instead. */
async function firstMessage<T>(name: string, child: ChildProcess): Promise<[T]> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${name}: expected it to start, it ended with code ${code}; it says why above`);
  });
  return (await Promise.race([once(child, 'message'), ended])) as [T];
}

/** The gateway is started as `quern up` does. `env`: further settings of it; `prof`: folder for its CPU profile. */
export async function startProcesses({
  env = {},
  prof,
}: {
  env?: NodeJS.ProcessEnv;
  prof?: string | undefined;
} = {}): Promise<Mesh> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-bench-'));
  const mockArgs = JSON.stringify({ folder, stepMs: STEP_MS, contextLength: 100_000 });
  const mock = fork(join(ROOT, 'test/contract/gateway/fakes/mock-main.ts'), [mockArgs], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const [bare] = await firstMessage<MockMainReady>('mock engine', mock);
  const gateway = fork(join(ROOT, 'services/gateway/main.ts'), [], {
    execArgv: [...GATEWAY_NODE_OPTIONS, ...(prof ? ['--cpu-prof', `--cpu-prof-dir=${prof}`] : [])],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {
      ...process.env,
      QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0',
      QUERN_GATEWAY_GRPC_LISTEN: '127.0.0.1:0',
      QUERN_GATEWAY_TOKENIZER: bare.tokenizer,
      QUERN_GATEWAY_ENGINES: `mock=${bare.engine}`,
      QUERN_LOG_LEVEL: 'warn',
      ...env,
    },
  });
  const [ready] = await firstMessage<{ addresses: string[] }>('gateway', gateway);
  const [http = '', grpc = ''] = ready.addresses.map((address) => address.replace('http://', ''));
  for (let i = 0; i < 200 && (await fetch(`http://${http}/health`)).status !== 200; i += 1) await sleep(25);
  const close = async (): Promise<void> => {
    gateway.kill('SIGTERM');
    await once(gateway, 'exit');
    mock.disconnect();
    await once(mock, 'exit');
    rmSync(folder, { recursive: true, force: true });
  };
  return { mock, gateway, bare, grpc, http, close };
}

export function machineLine(): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim();
  const load = loadavg()
    .map((value) => value.toFixed(2))
    .join(' ');
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, load ${load}, commit ${commit}`;
}
