// What the gateway costs: added TTFT and ITL over bare one-hop streams paced the same, and saturated throughput.
// Three processes: mock engine (10 ms step, one token per sequence and step) with the bare streams, the gateway, this client.
//   npm run bench:mesh [-- --seconds 6 --streams 1,64,256 --tokens 24 --stages --skip-paced --skip-saturated --prof DIR]
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { RequestServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { TokenizerServiceClient } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import {
  type Call,
  cpuSeconds,
  grpcCall,
  type Mesh,
  machineLine,
  percentile,
  print,
  STEP_MS,
  sseCall,
  startProcesses,
} from './support/mesh-processes.ts';

const WARM_UP_STREAMS = 64;
const WARM_UP_SECONDS = 8;
const SATURATED_STREAMS = 64;
const SATURATED_TOKENS = 6_000;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '6' },
    streams: { type: 'string', default: '1,64,256' },
    stages: { type: 'boolean', default: false },
    'skip-paced': { type: 'boolean', default: false },
    'skip-saturated': { type: 'boolean', default: false },
    tokens: { type: 'string', default: '24' },
    prof: { type: 'string' },
  },
});

const TOKENS = Number(values.tokens);

type Samples = { ttftMs: number[]; itlMs: number[] };

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

const STAGES = ['admit', 'tokenize', 'route', 'finish'] as const;
/** Every so many-th request is asked about. */
const EXPLAINED_SHARE = 4;

/** Where the gateway's own share of the time lies: the stages before the engine and after it, as RequestService.Explain has them. */
async function benchStages(mesh: Mesh, seconds: number): Promise<void> {
  const requests = openChannel(RequestServiceClient, { address: mesh.grpc });
  print(['stages at 64 streams', ...STAGES.flatMap((name) => [`${name} p50`, 'p99']), 'requests']);
  for (const [name, open, address] of [
    ['gRPC', grpcCall, mesh.grpc],
    ['SSE', sseCall, mesh.http],
  ] as const) {
    const { call, close } = open(address);
    const ids: string[] = [];
    let made = 0;
    const named: Call = (tokens, onDelta) => {
      made += 1;
      if (made % EXPLAINED_SHARE > 0) return call(tokens, onDelta);
      const id = `${name}-${made}`;
      return call(tokens, onDelta, id).then(() => void ids.push(id));
    };
    await paced(named, WARM_UP_STREAMS, seconds);
    const took = new Map<string, number[]>(STAGES.map((stage) => [stage, []]));
    for (const requestId of ids) {
      const { stages } = await unary(requests, 'explain', { requestId }, {});
      for (const stage of stages) took.get(stage.name)?.push(Number(stage.durationUs) / 1000);
    }
    const values = STAGES.flatMap((stage) => [0.5, 0.99].map((share) => percentile(took.get(stage) ?? [], share)));
    print([`  ${name}`, ...values, String(ids.length)]);
    close();
  }
  requests.close();
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

process.stdout.write(`${machineLine()}\n`);
const mesh = await startProcesses({ prof: values.prof });
try {
  await calibrate(mesh);
  if (!values['skip-paced']) await benchPaced(mesh, Number(values.seconds));
  if (values.stages) await benchStages(mesh, Number(values.seconds));
  if (!values['skip-saturated']) await benchSaturated(mesh);
} finally {
  await mesh.close();
}
process.stdout.write(`load at the end ${loadavg()[0]?.toFixed(2)}\n`);
