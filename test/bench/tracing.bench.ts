// What tracing every request costs, and how much of a call its spans leave unexplained.
//   npm run bench:tracing [-- --rounds 12 --tokens 6000,256]
// Two gateways over mock engines, one exporting every span to a collector in a process of its own, one exporting none, take
// turns at the same load: what else runs on the machine meets both alike. Medians of the rounds, and of the ratio in each.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startCollector } from '../support/otlp-collector.ts';
import { topsOf, uncoveredShare } from '../support/span-tree.ts';
import {
  type Call,
  type Caller,
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
import type { SinkTook } from './support/span-sink.ts';

const STREAMS = 64;
const ROUND_TOKENS = 384_000;
const WARM_UP_ROUNDS = 2;
const COVERAGE_SECONDS = 10;
const COVERAGE_TOKENS = 24;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '12' }, tokens: { type: 'string', default: '6000,256' } },
});
const ROUNDS = Number(values.rounds);

type Round = { tokensPerSecond: number; cpuMicros: number };
type Side = { name: string; mesh: Mesh; caller: Caller; rounds: Round[] };

const median = (samples: readonly number[]): number => percentile(samples, 0.5);

/** All streams busy until ROUND_TOKENS have come, `tokens` per request. */
async function round({ mesh, caller }: Side, tokens: number): Promise<Round> {
  const pid = mesh.gateway.pid ?? 0;
  const perStream = Math.max(1, Math.round(ROUND_TOKENS / STREAMS / tokens));
  const [cpu, startedAt] = [cpuSeconds(pid), performance.now()];
  const stream = async (): Promise<void> => {
    for (let i = 0; i < perStream; i += 1) await caller.call(tokens, () => {});
  };
  await Promise.all(Array.from({ length: STREAMS }, stream));
  const made = STREAMS * perStream * tokens;
  const seconds = (performance.now() - startedAt) / 1000;
  return { tokensPerSecond: made / seconds, cpuMicros: ((cpuSeconds(pid) - cpu) / made) * 1e6 };
}

async function benchCost(
  transport: string,
  open: (mesh: Mesh) => Caller,
  meshes: { off: Mesh; on: Mesh },
  tokens: number,
) {
  const sides: Side[] = [
    { name: 'off', mesh: meshes.off, caller: open(meshes.off), rounds: [] },
    { name: 'on', mesh: meshes.on, caller: open(meshes.on), rounds: [] },
  ];
  for (let i = 0; i < WARM_UP_ROUNDS + ROUNDS; i += 1) {
    for (const side of i % 2 === 0 ? sides : sides.toReversed()) {
      const one = await round(side, tokens);
      if (i >= WARM_UP_ROUNDS) side.rounds.push(one);
    }
  }
  const [off, on] = sides.map(({ rounds }) => rounds) as [Round[], Round[]];
  const ratios = on.map(({ tokensPerSecond }, i) => tokensPerSecond / (off[i]?.tokensPerSecond ?? Number.NaN) - 1);
  const cpu = on.map(({ cpuMicros }, i) => cpuMicros / (off[i]?.cpuMicros ?? Number.NaN) - 1);
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  print([
    `  ${transport}, ${tokens}`,
    ...[off, on].map((rounds) => String(Math.round(median(rounds.map((one) => one.tokensPerSecond))))),
    percent(median(ratios)),
    `${percent(percentile(ratios, 0.25))}..${percent(percentile(ratios, 0.75))}`,
    percent(median(cpu)),
  ]);
  for (const { caller } of sides) caller.close();
}

async function loop(call: Call, seconds: number): Promise<void> {
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) {
    await sleep(Math.random() * 2 * STEP_MS);
    await call(COVERAGE_TOKENS, () => {});
  }
}

/** How much of a call's time lies under none of its spans. The engine here is a mock without spans of its own. */
async function benchCoverage(): Promise<void> {
  const undo: (() => unknown)[] = [];
  const collector = await startCollector({ after: (close?: unknown) => void undo.push(close as () => unknown) });
  const mesh = await startProcesses({ env: { QUERN_OTLP_ENDPOINT: collector.url } });
  try {
    const callers = [grpcCall(mesh.grpc), sseCall(mesh.http)];
    for (const { call } of callers) await loop(call, 2); // a path taken a few times is still interpreted
    const warm = new Set(collector.spans.map(({ traceId }) => traceId));
    await Promise.all(callers.flatMap(({ call }) => Array.from({ length: 4 }, () => loop(call, COVERAGE_SECONDS))));
    for (const { close } of callers) close();
    await sleep(2_000); // the last batch
    const byTrace = Map.groupBy(
      collector.spans.filter(({ traceId }) => !warm.has(traceId)),
      ({ traceId }) => traceId,
    );
    const shares = [...byTrace.values()].flatMap((spans) => {
      const root = topsOf(spans)[0];
      return root?.kind === 'SERVER' && spans.length > 5 ? [uncoveredShare(spans, root) * 100] : [];
    });
    const [p50, p95] = [0.5, 0.95].map((share) => percentile(shares, share).toFixed(2));
    process.stdout.write(
      `of a call's time under no child span, ${shares.length} requests of 8 callers: p50 ${p50} %, p95 ${p95} %\n`,
    );
  } finally {
    await mesh.close();
    for (const close of undo) await close();
  }
}

async function startSink(): Promise<{ sink: ChildProcess; url: string }> {
  const sink = fork(new URL('./support/span-sink.ts', import.meta.url), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const [{ url }] = (await once(sink, 'message')) as [{ url: string }];
  return { sink, url };
}

async function benchCosts(): Promise<void> {
  const { sink, url } = await startSink();
  const meshes = { off: await startProcesses(), on: await startProcesses({ env: { QUERN_OTLP_ENDPOINT: url } }) };
  for (const { mock } of Object.values(meshes)) mock.send({ stepMs: 0 });
  print([`saturated, ${STREAMS} streams`, 'tok/s off', 'tok/s on', 'ratio - 1', 'quartiles', 'gw CPU']);
  for (const tokens of values.tokens.split(',').map(Number)) {
    await benchCost('gRPC', (mesh) => grpcCall(mesh.grpc), meshes, tokens);
    await benchCost('SSE', (mesh) => sseCall(mesh.http), meshes, tokens);
  }
  sink.send('?');
  const [took] = (await once(sink, 'message')) as [SinkTook];
  process.stdout.write(`the collector took ${took.requests} posts, ${(took.bytes / 1e6).toFixed(1)} MB\n`);
  for (const mesh of Object.values(meshes)) await mesh.close();
  sink.disconnect();
}

process.stdout.write(`${machineLine()}\n`);
await benchCosts();
await benchCoverage();
process.stdout.write(`load at the end ${loadavg()[0]?.toFixed(2)}\n`);
