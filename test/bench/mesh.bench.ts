// What the gateway costs: added TTFT and ITL over bare one-hop streams paced the same, and saturated throughput.
// Three processes: mock engine (10 ms step, one token per sequence and step) with the bare streams, the gateway, this client.
//   npm run bench:mesh [-- --seconds 6 --streams 1,64,256 --tokens 24 --skip-paced --skip-saturated --trace --prof DIR]
// With --trace the gateway exports every span to a collector in this process; the difference to a run without is its cost.
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CompletionServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { TokenizerServiceClient } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';
import type { MockMainReady } from '../contract/gateway/fakes/mock-main.ts';
import { type Collector, startCollector } from '../support/otlp-collector.ts';
import { topsOf, uncoveredShare } from '../support/span-tree.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const STEP_MS = 10;
const WARM_UP_STREAMS = 64;
const WARM_UP_SECONDS = 8;
const SATURATED_STREAMS = 64;
const SATURATED_TOKENS = 6_000;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '6' },
    streams: { type: 'string', default: '1,64,256' },
    'skip-paced': { type: 'boolean', default: false },
    'skip-saturated': { type: 'boolean', default: false },
    tokens: { type: 'string', default: '24' },
    trace: { type: 'boolean', default: false },
    prof: { type: 'string' },
  },
});

const TOKENS = Number(values.tokens);

type Samples = { ttftMs: number[]; itlMs: number[] };
/** Streams one answer; calls onDelta per message that carries text; resolves at its end. */
type Call = (maxTokens: number, onDelta: () => void) => Promise<void>;

function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function grpcCall(address: string): { call: Call; close(): void } {
  const client = openChannel(CompletionServiceClient, { address });
  const call: Call = (maxTokens, onDelta) =>
    new Promise((resolve, reject) => {
      const request = {
        model: '',
        prompt: { $case: 'text' as const, value: 'def main():\n' },
        sampling: { ...emptySampling(), maxTokens, ignoreEos: true },
        stop: [],
        options: undefined,
        echo: false,
      };
      const stream = client.streamComplete({ request });
      stream.on('data', (message) => {
        if (message.event?.$case === 'delta') onDelta();
      });
      stream.on('end', resolve);
      stream.on('error', reject);
    });
  return { call, close: () => client.close() };
}

function sseCall(address: string): { call: Call; close(): void } {
  const [host, port] = address.split(':') as [string, string];
  const agent = new Agent({ keepAlive: true, maxSockets: 1024 });
  const call: Call = (maxTokens, onDelta) =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify({ prompt: 'def main():\n', max_tokens: maxTokens, stream: true, ignore_eos: true });
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
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

/**
 * `streams` callers in a loop, begun at random within one answer's time and with random pauses: arrivals lock neither to
 * the step nor to one another.
 */
async function paced(call: Call, streams: number, seconds: number): Promise<Samples> {
  const samples: Samples = { ttftMs: [], itlMs: [] };
  const until = performance.now() + seconds * 1000;
  await Promise.all(
    Array.from({ length: streams }, async () => {
      await sleep(Math.random() * TOKENS * STEP_MS);
      while (performance.now() < until) {
        await sleep(Math.random() * 2 * STEP_MS);
        const startedAt = performance.now();
        let last = 0;
        await call(TOKENS, () => {
          const now = performance.now();
          if (last === 0) samples.ttftMs.push(now - startedAt);
          else samples.itlMs.push(now - last);
          last = now;
        });
      }
    }),
  );
  return samples;
}

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function print(columns: readonly (string | number)[]): void {
  const text = columns.map((c) => (typeof c === 'number' ? c.toFixed(2) : c));
  process.stdout.write(`${text.map((c, i) => (i === 0 ? c.padEnd(22) : c.padStart(11))).join('')}\n`);
}

type Mesh = {
  mock: ChildProcess;
  gateway: ChildProcess;
  bare: MockMainReady;
  grpc: string;
  http: string;
  close(): Promise<void>;
};

async function startProcesses(collector: Collector | null): Promise<Mesh> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-bench-'));
  const mockArgs = JSON.stringify({ folder, stepMs: STEP_MS, contextLength: 100_000 });
  const mock = fork(join(ROOT, 'test/contract/gateway/fakes/mock-main.ts'), [mockArgs], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const [bare] = (await once(mock, 'message')) as [MockMainReady];
  const gateway = fork(join(ROOT, 'services/gateway/main.ts'), [], {
    execArgv: values.prof ? ['--cpu-prof', `--cpu-prof-dir=${values.prof}`] : [],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {
      ...process.env,
      QUERN_GATEWAY_HTTP_LISTEN: '127.0.0.1:0',
      QUERN_GATEWAY_GRPC_LISTEN: '127.0.0.1:0',
      QUERN_GATEWAY_TOKENIZER: bare.tokenizer,
      QUERN_GATEWAY_ENGINES: `mock=${bare.engine}`,
      QUERN_LOG_LEVEL: 'warn',
      ...(collector && { QUERN_OTLP_ENDPOINT: collector.url }),
    },
  });
  const [ready] = (await once(gateway, 'message')) as [{ addresses: string[] }];
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

/** What one gRPC hop costs here and now: a paced unary call to the mock tokenizer. A completion makes one beside its streams. */
async function calibrate(mesh: Mesh): Promise<void> {
  const client = openChannel(TokenizerServiceClient, { address: mesh.bare.tokenizer });
  const request = { model: 'mock', text: 'def main():\n', parseSpecial: 0 as const, addBos: true };
  const samples: number[] = [];
  for (let i = 0; i < 300; i += 1) {
    await sleep(3);
    const startedAt = performance.now();
    await unary(client, 'encode', request, {});
    if (i >= 100) samples.push(performance.now() - startedAt);
  }
  client.close();
  const [p50, p99] = [percentile(samples, 0.5), percentile(samples, 0.99)].map((value) => value.toFixed(2));
  process.stdout.write(`one unary call over a unix socket, paced: p50 ${p50} ms, p99 ${p99} ms\n`);
}

async function benchPaced(mesh: Mesh, seconds: number): Promise<void> {
  print(['paced, 10 ms step', 'TTFT p50', 'p99', 'ITL p50', 'p99', 'added TTFT', 'p99', 'added ITL', 'p99', 'samples']);
  for (const streams of values.streams.split(',').map(Number)) {
    for (const [name, open, bare, own] of [
      ['gRPC', grpcCall, mesh.bare.bareGrpc, mesh.grpc],
      ['SSE', sseCall, mesh.bare.bareHttp, mesh.http],
    ] as const) {
      const a = open(bare);
      const b = open(own);
      // As after the first minutes of service: a path that was taken a few hundred times is still interpreted.
      await paced(a.call, WARM_UP_STREAMS, WARM_UP_SECONDS);
      await paced(b.call, WARM_UP_STREAMS, WARM_UP_SECONDS);
      const base: Samples = { ttftMs: [], itlMs: [] };
      const ours: Samples = { ttftMs: [], itlMs: [] };
      // Turn by turn: what else runs on the machine meets both alike.
      for (let turn = 0; turn < 3; turn += 1) {
        for (const [call, into] of [
          [a.call, base],
          [b.call, ours],
        ] as const) {
          const part = await paced(call, streams, seconds / 3);
          for (const value of part.ttftMs) into.ttftMs.push(value);
          for (const value of part.itlMs) into.itlMs.push(value);
        }
      }
      a.close();
      b.close();
      const four = (s: Samples): number[] => [
        percentile(s.ttftMs, 0.5),
        percentile(s.ttftMs, 0.99),
        percentile(s.itlMs, 0.5),
        percentile(s.itlMs, 0.99),
      ];
      const bareFour = four(base);
      const ownFour = four(ours);
      print([`  bare ${name}, ${streams}`, ...bareFour, '', '', '', '', String(base.ttftMs.length)]);
      print([
        `  mesh ${name}, ${streams}`,
        ...ownFour,
        ...ownFour.map((v, i) => v - (bareFour[i] ?? 0)),
        String(ours.ttftMs.length),
      ]);
    }
  }
}

async function benchSaturated(mesh: Mesh): Promise<void> {
  mesh.mock.send({ stepMs: 0 });
  print(['saturated, 64 streams', 'tok/s', 'msg/s', 'gw cpu us', 'tok/gw-cpu-s', 'client us', 'mock us']);
  for (const [name, open, address] of [
    ['gRPC', grpcCall, mesh.grpc],
    ['SSE', sseCall, mesh.http],
  ] as const) {
    const { call, close } = open(address);
    const round = async (tokens: number): Promise<number> => {
      let messages = 0;
      await Promise.all(
        Array.from({ length: SATURATED_STREAMS }, () =>
          call(tokens, () => {
            messages += 1;
          }),
        ),
      );
      return messages;
    };
    await round(500);
    const before = [mesh.gateway.pid ?? 0, process.pid, mesh.mock.pid ?? 0].map(cpuSeconds);
    const startedAt = performance.now();
    const messages = await round(SATURATED_TOKENS);
    const seconds = (performance.now() - startedAt) / 1000;
    const after = [mesh.gateway.pid ?? 0, process.pid, mesh.mock.pid ?? 0].map(cpuSeconds);
    const tokens = SATURATED_STREAMS * SATURATED_TOKENS;
    const cpu = after.map((value, i) => value - (before[i] ?? 0));
    const micros = cpu.map((value) => (value / tokens) * 1e6);
    print([
      `  ${name}`,
      String(Math.round(tokens / seconds)),
      String(Math.round(messages / seconds)),
      micros[0] ?? 0,
      String(Math.round(tokens / (cpu[0] || 1))),
      micros[1] ?? 0,
      micros[2] ?? 0,
    ]);
    close();
  }
}

/** How much of a call's time lies under none of its spans. The engine here is a mock without spans of its own. */
async function reportCoverage(collector: Collector): Promise<void> {
  await sleep(2_000); // the last batch
  const byTrace = Map.groupBy(collector.spans, ({ traceId }) => traceId);
  const shares = [...byTrace.values()].flatMap((spans) => {
    const root = topsOf(spans)[0];
    return root?.kind === 'SERVER' && spans.length > 5 ? [uncoveredShare(spans, root) * 100] : [];
  });
  const [p50, p95] = [percentile(shares, 0.5), percentile(shares, 0.95)].map((value) => value.toFixed(2));
  const { length } = collector.spans;
  process.stdout.write(
    `${length} spans of ${shares.length} requests; of a call's time under no child span: p50 ${p50} %, p95 ${p95} %\n`,
  );
}

function machineLine(): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim();
  const load = loadavg()
    .map((value) => value.toFixed(2))
    .join(' ');
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, load ${load}, commit ${commit}`;
}

process.stdout.write(`${machineLine()}\n`);
const undo: (() => unknown)[] = [];
const collector = values.trace
  ? await startCollector({ after: (close: () => unknown) => void undo.push(close) })
  : null;
process.stdout.write(`tracing ${collector ? 'on, every request' : 'off'}\n`);
const mesh = await startProcesses(collector);
try {
  await calibrate(mesh);
  if (!values['skip-paced']) await benchPaced(mesh, Number(values.seconds));
  if (!values['skip-saturated']) await benchSaturated(mesh);
  if (collector) await reportCoverage(collector);
} finally {
  await mesh.close();
  for (const close of undo) await close();
}
process.stdout.write(`load at the end ${loadavg()[0]?.toFixed(2)}\n`);
